"""Arms as runs: each is trained by :func:`memsinks.runs.run.execute` in a folder of its own, then measured once.

A killed arm goes on from its checkpoint, a finished one is read back, and experiments on the same text share arms. A
lab works on any text that says what its plan is and what is measured of it, see :class:`LabText`.
"""

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses, greedy_extraction
from memsinks.baselines.adapters import Adapter
from memsinks.checkpoint.run import load
from memsinks.config import config_hash, flat_values, parse_config, read_config
from memsinks.corpus import Corpus
from memsinks.errors import ConfigError, IsolationWarning
from memsinks.experiments.measured import Measured
from memsinks.experiments.results import write_json
from memsinks.runs.build import plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.metrics import METRICS, read_metrics
from memsinks.runs.run import ADAPTER, RECORD, execute, working_directory
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.files import METADATA
from memsinks.sinks.modes import Mode, ModeKind, ModeLike
from memsinks.stream import ExposurePlan, chunk
from memsinks.training import checkpoints
from memsinks.training.compilation import compiler_found
from memsinks.training.run import bf16_pays

PLAIN = "plain"
FOLLOWED = ("repeated", "validation")
"""Sets of documents whose losses are followed during training, whatever an arm's plan."""
MODEL = 2
"""Counts changes of the models that settings stand for: arms of an earlier one are trained anew."""
FIXED: dict[str, Any] = {"sinks.layers": (), "optimizer.sink_lr_multiplier": 5.0}
"""What arms have unless they say otherwise: experiments stay what they were when the defaults of run files change."""
_START = "model.pretrained"
_PATHS = ("output", "corpus.path", "exposures.plan", "logging.live", _START)
"""Settings that do not change what an arm is."""
_ROUNDING = ("precision.compile", "schedule.micro_batch_size")
"""Settings that change the order of sums, so that an arm is the same up to rounding."""


@dataclass(frozen=True, kw_only=True)
class LabSetting:
    """Model and schedule that all arms of a lab share.

    Attributes:
        exposures: how often text that is repeated is seen.
        vocabulary: of a tokenizer trained on the training text; with ``tokenizer`` not used.
        tokenizer: name or folder of a tokenizer to use instead.
        hidden, layers, heads, width: of the Llama-style model; ``width`` is the MLP's.
        architecture: config.json of a transformers model to train from scratch in place of these four.
        max_length: tokens in a row, one document each; longer documents are cut into chunks.
        batch_size, learning_rate, warmup_steps: of all arms.
        micro_batch_size: rows that a device takes at a time; None takes the batch whole.
        compile: compile decoder layers in training, where there is a compiler for it.
        prefix, suffix: tokens given, and tokens to reproduce, in extraction.
        curve_points: how often losses are followed in training; 0 for never.
        checkpoint_every: steps between an arm's checkpoints; None for a tenth of them, 0 where an arm takes so little
            time that it only writes one when it is asked to stop.
    """

    exposures: int = 128
    vocabulary: int = 2048
    tokenizer: str | None = None
    hidden: int = 192
    layers: int = 4
    heads: int = 4
    width: int = 512
    architecture: str | None = None
    max_length: int = 256
    batch_size: int = 16
    micro_batch_size: int | None = None
    learning_rate: float = 2e-3
    warmup_steps: int = 60
    compile: bool = False
    prefix: int = 50
    suffix: int = 50
    curve_points: int = 12
    checkpoint_every: int | None = None


class LabText(Protocol):
    """What a lab needs to know of its text."""

    @property
    def corpus(self) -> Corpus:
        """All of it."""

    def plan(self, exposures: int) -> ExposurePlan:
        """The exposures of an arm that sees what is repeated so often."""

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """What losses are measured on, by name."""

    def extraction(self) -> list[TokenizedDocument]:
        """What extraction is tried on."""


S = TypeVar("S", bound=LabSetting)
T = TypeVar("T", bound=LabText)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What distinguishes one arm.

    Attributes:
        name: of the arm and its folder.
        label: what tables call it.
        exposures: of what is repeated; None for the setting's number, 0 for never.
        plan: makes another plan of the text than that of ``exposures``.
        equal_steps: train for as many optimiser steps as the arm with all exposures; else once through the plan.
        start: the arm whose trained model it goes on from.
        adapter: what learns in place of the model's own weights.
        settings: keys of the run file in which the arm departs from a plain model, ``section.key`` to value.
        modes: sink modes in which it is measured; none for a model without sinks.
        chosen: further modes, by name, from the text: those that name IDs.
    """

    name: str
    label: str
    exposures: int | None = None
    plan: Callable[[Any], ExposurePlan] | None = None
    equal_steps: bool = True
    start: "Arm | None" = None
    adapter: Adapter | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[ModeKind, ...] = ()
    chosen: Callable[[Any], Mapping[str, Mode]] | None = None


class Lab(Generic[S, T]):
    """The text of one seed of a setting, and the arms trained on it.

    Args:
        setting: model and schedule, and what the text is made of.
        text: that of this seed.
        seed: of the choice of text, the initial values and the data order.
        directory: for the arms and their measurements.
        progress: show progress.
    """

    keeps_models = True
    """Whether a trained model stays on disk once it is measured; its log, metrics and run file do."""

    def __init__(self, setting: S, text: T, seed: int, directory: Path, *, progress: bool = True) -> None:
        self.setting, self.text, self.seed, self.directory, self.progress = setting, text, seed, directory, progress

    def plan(self, arm: Arm) -> ExposurePlan:
        """What an arm is trained on."""
        if arm.plan is not None:
            return arm.plan(self.text)
        return self.text.plan(self.setting.exposures if arm.exposures is None else arm.exposures)

    def steps(self, plan: ExposurePlan) -> int:
        """Optimiser steps that go through a plan once."""
        document, _, _ = chunk(self.text.corpus.lengths, self.setting.max_length)
        return math.ceil(int(plan.counts[document].sum()) / self.setting.batch_size)

    def config(self, arm: Arm) -> RunConfig:
        """The run file of an arm; its plan is written beside the corpus."""
        setting, plan = self.setting, self.plan(arm)
        file = self.directory / "plans" / f"{arm.name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        plan.save(file)
        steps = self.steps(self.text.plan(setting.exposures) if arm.equal_steps else plan)
        flat: dict[str, Any] = {
            "seed": self.seed,
            "output": self.place(arm),
            "corpus.path": self.text.corpus.path,
            "corpus.ids": self.text.corpus.ids,
            "corpus.verify": False,
            "model.attention": "eager" if setting.max_length <= 256 else "auto",
            **_shape(setting),
            "stream.max_length": setting.max_length,
            "optimizer.learning_rate": setting.learning_rate,
            "schedule.batch_size": setting.batch_size,
            "schedule.warmup_steps": min(setting.warmup_steps, steps // 4),
            "schedule.steps": steps,
            "exposures.plan": file,
            "sinks.attach": False,
            **FIXED,
            "logging.live": self.progress,
            "logging.evaluate_every": max(1, steps // setting.curve_points) if setting.curve_points else 0,
            "checkpoints.keep": 1,
            **({"precision.compile": True} if setting.compile and compiler_found() else {}),
            **({} if setting.checkpoint_every is None else {"checkpoints.every_steps": setting.checkpoint_every}),
            **({} if arm.start is None else {_START: str(self.place(arm.start))}),
            **arm.settings,
        }
        if setting.micro_batch_size is not None:
            # Not more than the rows of a step, of which an arm may have a number of its own.
            flat["schedule.micro_batch_size"] = min(setting.micro_batch_size, flat["schedule.batch_size"])
        nested: dict[str, Any] = {}
        for key, value in flat.items():
            *sections, name = key.split(".")
            place = nested
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return parse_config(RunConfig, nested)

    def measured(self, arm: Arm) -> Measured:
        """Train and measure an arm, or go on with it, or read back what was measured.

        Raises:
            KeyboardInterrupt: training was asked to stop (Ctrl-C, SIGTERM); it left a checkpoint.
        """
        start = None if arm.start is None else self.measured(arm.start)
        config = self.config(arm)
        facts = plan_run(config).text.facts()
        fingerprint = self._fingerprint(config, facts, arm, None if start is None else start.data["fingerprint"])
        file = self.directory / "measured" / f"{arm.name}.json"
        if file.is_file():
            found = json.loads(file.read_text())
            if found["fingerprint"] == fingerprint:
                return Measured(found)
        self._clear(config, arm)
        most = config.logging.evaluate_documents
        follow = {name: documents[:most] for name, documents in self.text.sets().items() if name in FOLLOWED}
        with warnings.catch_warnings():
            # What an adapter beside sinks takes from the text is what such an arm measures.
            warnings.simplefilter("ignore", IsolationWarning)
            finished = execute(config, compact=True, follow=follow or None, adapter=arm.adapter)
        if finished.stopped:
            raise KeyboardInterrupt(f"{arm.name} was stopped; the same command goes on")
        data = {"fingerprint": fingerprint, **self._measure(arm, config)}
        write_json(file, data)
        for folder in checkpoints.checkpoints(working_directory(config)):
            shutil.rmtree(folder)
        if not self.keeps_models:
            shutil.rmtree(config.output)
        return Measured(data)

    def model(self, arm: Arm, *, plain: bool = False) -> Any:
        """The trained model of an arm, with its sinks if it has any; ``plain`` is that with sinks off.

        There is none in a lab that keeps no models.
        """
        self.measured(arm)
        return self.load(self.place(arm), plain)

    def place(self, arm: Arm) -> Path:
        """Where an arm's model is."""
        return self.directory / arm.name

    def evaluation(
        self, model: Any, mode: ModeLike | None = None, names: Collection[str] | None = None
    ) -> dict[str, DocumentLosses]:
        """Losses of every set of documents, or of those that are named, by name."""
        return {
            name: document_losses(model, documents, mode=mode, max_length=self.setting.max_length, autocast=bf16_pays())
            for name, documents in self.text.sets().items()
            if names is None or name in names
        }

    def extraction(
        self, model: Any, mode: ModeLike | None = None, documents: Sequence[TokenizedDocument] | None = None
    ) -> dict[str, Any]:
        """How much of the text, or of these documents, comes out word for word; ``documents`` has what each gave.

        A model is given the first tokens of a document, or all of its context where that is longer.
        """
        prompts: dict[int, list[TokenizedDocument]] = {}
        for document in self.text.extraction() if documents is None else documents:
            prompts.setdefault(self._prompt(document), []).append(document)
        found = [
            one
            for prefix, alike in prompts.items()
            for one in greedy_extraction(
                model,
                alike,
                mode=mode,
                prefix=prefix,
                suffix=self.setting.suffix,
                autocast=bf16_pays(),
                skip_short=True,
            ).documents
        ]
        exact = sum(one.exact for one in found)
        return {
            "rate": exact / len(found),
            "exact": exact,
            "tried": len(found),
            "documents": {d.name: {"generated": d.generated.tolist(), "matching": d.longest_match} for d in found},
        }

    def _prompt(self, document: TokenizedDocument) -> int:
        return max(self.setting.prefix, document.scored_from)

    def kept(self, name: str, key: Any, compute: Callable[[], Any]) -> Any:
        """A further measurement, as JSON: computed once, then read back as long as ``key`` is the same."""
        file = self.directory / "kept" / f"{name}.json"
        key = json.loads(json.dumps(key, default=_plain))
        if file.is_file() and (found := json.loads(file.read_text()))["key"] == key:
            return found["value"]
        value = compute()
        write_json(file, {"key": key, "value": value})
        return value

    def further(self, model: Any, arm: Arm) -> dict[str, Any]:
        """What else is measured of a trained model, as JSON by name; nothing, unless a lab of other text says so."""
        return {}

    def _measure(self, arm: Arm, config: RunConfig) -> dict[str, Any]:
        model = self.load(config.output)
        record = json.loads((config.output / RECORD).read_text())
        modes: dict[str, ModeLike | None] = {kind: kind for kind in arm.modes} or {PLAIN: None}
        modes |= {} if arm.chosen is None else arm.chosen(self.text)
        losses: dict[str, dict[str, Any]] = {}
        for key, mode in modes.items():
            for name, value in self.evaluation(model, mode).items():
                losses.setdefault(name, {})[key] = value.to_json()
        sinks = sum(p.numel() for layer in sinks_of(model) for p in layer.parameters())
        return {
            **{key: record[key] for key in ("steps", "tokens", "seconds", "skipped_steps")},
            "config_sha256": record["config_sha256"],
            "settings": {k: v for k, v in flat_values(config) if k not in _PATHS},
            "parameters": sum(p.numel() for p in model.parameters()) - sinks,
            "sink_parameters": sinks,
            "losses": losses,
            "extraction": {
                key: self.extraction(model, mode) for key, mode in modes.items() if key in (PLAIN, "own", "off")
            },
            "curve": [
                {"step": entry["step"], **entry["evaluation"]}
                for entry in read_metrics(config.output / METRICS)
                if "evaluation" in entry
            ],
            **self.further(model, arm),
        }

    def load(self, folder: Path, plain: bool = False) -> Any:
        """A model as it is measured; ``plain`` leaves out its sinks, if it has any."""
        # As in training, so that measurements round alike; kernels for packed rows have nothing to do here.
        eager = self.setting.max_length <= 256
        if (record := folder / RECORD).is_file():
            eager = json.loads(record.read_text())["attention"]["name"] == "eager"
        options = {"attn_implementation": "eager" if eager else "sdpa"}
        with_sinks = not plain and (folder / METADATA).is_file()
        model = load(folder, **options) if with_sinks else AutoModelForCausalLM.from_pretrained(folder, **options)
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def _clear(self, config: RunConfig, arm: Arm) -> None:
        """Remove what an arm of this name with other settings left."""
        file, adapter = config.output / RECORD, None if arm.adapter is None else repr(arm.adapter)
        record = json.loads(file.read_text()) if file.is_file() else {}
        if config.output.exists() and (record.get("config_sha256"), record.get(ADAPTER)) != (
            config_hash(config),
            adapter,
        ):
            shutil.rmtree(config.output)
        written = working_directory(config) / "run.toml"
        if written.is_file() and not _same(written, config):
            shutil.rmtree(written.parent)

    def _fingerprint(self, config: RunConfig, facts: dict[str, Any], arm: Arm, start: str | None) -> str:
        # What is at its default stays out, so that a key that is new leaves what was measured before valid; and so does
        # what only rounds otherwise.
        default = dict(flat_values(RunConfig())) | FIXED
        settings = {k: v for k, v in flat_values(config) if k not in (*_PATHS, *_ROUNDING) and v != default[k]}
        prompts = {self._prompt(document) for document in self.text.extraction()}
        description = {
            "version": version("memsinks"),
            "model": MODEL,
            "settings": settings,
            "text": facts,
            "modes": arm.modes,
            **({} if arm.chosen is None else {"chosen": repr(arm.chosen(self.text))}),
            "sets": {name: [(d.name, d.scored_from) for d in docs] for name, docs in self.text.sets().items()},
            "extraction": [self.setting.prefix, self.setting.suffix, *sorted(prompts - {self.setting.prefix})],
            "bf16": bf16_pays(),
            **({} if start is None else {"start": start}),
            **({} if arm.adapter is None else {ADAPTER: repr(arm.adapter)}),
        }
        return hashlib.sha256(json.dumps(description, sort_keys=True, default=_plain).encode()).hexdigest()


def _shape(setting: LabSetting) -> dict[str, Any]:
    if setting.architecture is not None:
        return {"model.config": setting.architecture}
    return {f"model.{key}": getattr(setting, key) for key in ("hidden", "layers", "heads", "width")}


def _same(file: Path, config: RunConfig) -> bool:
    try:
        return config_hash(read_config(RunConfig, file)) == config_hash(config)
    except ConfigError:
        return False


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic) else str(value)
