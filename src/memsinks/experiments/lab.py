"""Arms as runs: each is trained by :func:`memsinks.runs.run.execute` in a folder of its own, then measured once.

A killed arm goes on from its checkpoint, a finished one is read back, and experiments on the same text share arms.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from memsinks.audit import document_losses, greedy_extraction
from memsinks.checkpoint.run import load
from memsinks.config import config_hash, flat_values, parse_config, read_config
from memsinks.errors import ConfigError
from memsinks.experiments.arms import Measured
from memsinks.experiments.results import write_json
from memsinks.experiments.stories import StorySetting, StoryText, story_text
from memsinks.runs.build import plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.metrics import METRICS, read_metrics
from memsinks.runs.run import RECORD, execute, working_directory
from memsinks.sinks.files import METADATA
from memsinks.sinks.modes import ModeKind
from memsinks.stream import ExposurePlan, Treatment, chunk
from memsinks.training import checkpoints
from memsinks.training.run import bf16_pays

PLAIN = "plain"
CURVE_POINTS = 12
_PATHS = ("output", "corpus.path", "exposures.plan", "logging.live")
"""Settings that do not change what an arm is."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What distinguishes one arm.

    Attributes:
        name: of the arm and its folder.
        label: what tables call it.
        exposures: of each repeated story; None for the setting's number, 0 for never.
        equal_steps: train for as many optimiser steps as the arm with all exposures; else once through the plan.
        settings: keys of the run file in which the arm departs from a plain model, ``section.key`` to value.
        modes: sink modes in which it is measured; none for a model without sinks.
    """

    name: str
    label: str
    exposures: int | None = None
    equal_steps: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[ModeKind, ...] = ()


class Lab:
    """The text of one seed of a setting, and the arms trained on it.

    Args:
        setting: text, model and schedule.
        seed: of the choice of stories, the initial values and the data order.
        directory: for the corpus, the arms and their measurements.
        progress: show progress.
    """

    def __init__(self, setting: StorySetting, seed: int, directory: Path, *, progress: bool = True) -> None:
        self.setting, self.seed, self.directory, self.progress = setting, seed, directory, progress
        self.text: StoryText = story_text(setting, seed, directory / "corpus", progress=progress)

    def plan(self, exposures: int | None = None) -> ExposurePlan:
        """Every other story once, and each repeated one as often as asked."""
        once = ExposurePlan.once(self.text.corpus)
        return once.repeat(self.text.repeated.tolist(), self.setting.exposures if exposures is None else exposures)

    def steps(self, plan: ExposurePlan) -> int:
        """Optimiser steps that go through a plan once."""
        document, _, _ = chunk(self.text.corpus.lengths, self.setting.max_length)
        return math.ceil(int(plan.counts[document].sum()) / self.setting.batch_size)

    def config(self, arm: Arm) -> RunConfig:
        """The run file of an arm; its plan is written beside the corpus."""
        setting, plan = self.setting, self.plan(arm.exposures)
        file = self.directory / "plans" / f"{arm.name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        plan.save(file)
        steps = self.steps(self.plan() if arm.equal_steps else plan)
        flat: dict[str, Any] = {
            "seed": self.seed,
            "output": self.directory / arm.name,
            "corpus.path": self.directory / "corpus",
            "corpus.verify": False,
            "model.attention": "eager" if setting.max_length <= 256 else "auto",
            **{f"model.{key}": getattr(setting, key) for key in ("hidden", "layers", "heads", "width")},
            "stream.max_length": setting.max_length,
            "optimizer.learning_rate": setting.learning_rate,
            "schedule.batch_size": setting.batch_size,
            "schedule.warmup_steps": min(setting.warmup_steps, steps // 4),
            "schedule.steps": steps,
            "exposures.plan": file,
            "sinks.attach": False,
            "logging.live": self.progress,
            "logging.evaluate_every": max(1, steps // CURVE_POINTS),
            "checkpoints.keep": 1,
            **({} if setting.micro_batch_size is None else {"schedule.micro_batch_size": setting.micro_batch_size}),
            **arm.settings,
        }
        nested: dict[str, Any] = {}
        for key, value in flat.items():
            *sections, name = key.split(".")
            place = nested
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return parse_config(RunConfig, nested)

    def measured(self, arm: Arm) -> Measured:
        """Train and measure an arm, or go on with it, or read back what was measured."""
        config = self.config(arm)
        facts = plan_run(config).text.facts()
        fingerprint = self._fingerprint(config, facts, arm)
        file = self.directory / "measured" / f"{arm.name}.json"
        if file.is_file():
            found = json.loads(file.read_text())
            if found["fingerprint"] == fingerprint:
                return Measured(found)
        self._clear(config)
        execute(config)
        data = {"fingerprint": fingerprint, **self._measure(arm, config)}
        write_json(file, data)
        for folder in checkpoints.checkpoints(working_directory(config)):
            shutil.rmtree(folder)
        return Measured(data)

    def model(self, arm: Arm) -> Any:
        """The trained model of an arm, with its sinks if it has any."""
        self.measured(arm)
        return self._load(self.directory / arm.name)

    def evaluation(self, model: Any, mode: ModeKind | None = None) -> dict[str, Any]:
        """Losses of every set of documents: name -> :class:`memsinks.audit.DocumentLosses`."""
        return {
            name: document_losses(model, documents, mode=mode, max_length=self.setting.max_length, autocast=bf16_pays())
            for name, documents in self.text.sets().items()
        }

    def extraction(self, model: Any, mode: ModeKind | None = None) -> dict[str, Any]:
        """How many repeated stories come out word for word."""
        found = greedy_extraction(
            model,
            self.text.extraction(self.setting.prefix),
            mode=mode,
            prefix=self.setting.prefix,
            suffix=self.setting.suffix,
            autocast=bf16_pays(),
            skip_short=True,
        )
        return {"rate": found.rate, "exact": found.exact_count, "tried": len(found.documents)}

    def _measure(self, arm: Arm, config: RunConfig) -> dict[str, Any]:
        model = self._load(config.output)
        record = json.loads((config.output / RECORD).read_text())
        modes: tuple[ModeKind | None, ...] = arm.modes or (None,)
        losses: dict[str, dict[str, Any]] = {}
        for mode in modes:
            for name, value in self.evaluation(model, mode).items():
                losses.setdefault(name, {})[mode or PLAIN] = value.to_json()
        return {
            **{key: record[key] for key in ("steps", "tokens", "seconds", "skipped_steps")},
            "config_sha256": record["config_sha256"],
            "settings": {k: v for k, v in flat_values(config) if k not in _PATHS},
            "parameters": sum(p.numel() for p in model.parameters()),
            "losses": losses,
            "extraction": {
                mode or PLAIN: self.extraction(model, mode) for mode in modes if mode in (None, "own", "off")
            },
            "curve": [
                {"step": entry["step"], **entry["evaluation"]}
                for entry in read_metrics(config.output / METRICS)
                if "evaluation" in entry
            ],
        }

    def _load(self, folder: Path) -> Any:
        options = {"attn_implementation": "eager" if self.setting.max_length <= 256 else "sdpa"}
        with_sinks = (folder / METADATA).is_file()
        model = load(folder, **options) if with_sinks else AutoModelForCausalLM.from_pretrained(folder, **options)
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def _clear(self, config: RunConfig) -> None:
        """Remove what an arm of this name with other settings left."""
        record = config.output / RECORD
        if config.output.exists() and not (
            record.is_file() and json.loads(record.read_text())["config_sha256"] == config_hash(config)
        ):
            shutil.rmtree(config.output)
        written = working_directory(config) / "run.toml"
        if written.is_file() and not _same(written, config):
            shutil.rmtree(written.parent)

    def _fingerprint(self, config: RunConfig, facts: dict[str, Any], arm: Arm) -> str:
        # What is at its default stays out, so that a key that is new leaves what was measured before valid.
        default, treatment = dict(flat_values(RunConfig())), asdict(Treatment())
        description = {
            "version": version("memsinks"),
            "settings": {k: v for k, v in flat_values(config) if k not in _PATHS and v != default[k]},
            "text": {key: value for key, value in facts.items() if key not in treatment or value != treatment[key]},
            "modes": arm.modes,
            "sets": {name: [(d.name, d.scored_from) for d in docs] for name, docs in self.text.sets().items()},
            "extraction": [self.setting.prefix, self.setting.suffix],
            "bf16": bf16_pays(),
        }
        return hashlib.sha256(json.dumps(description, sort_keys=True, default=_plain).encode()).hexdigest()


def _same(file: Path, config: RunConfig) -> bool:

    try:
        return config_hash(read_config(RunConfig, file)) == config_hash(config)
    except ConfigError:
        return False


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic) else str(value)
