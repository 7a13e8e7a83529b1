"""One arm of an experiment: train a model, measure it, keep the measurements.

An arm's measurements go to a JSON file with a fingerprint of everything that led to them; a second run with the same
fingerprint reads them back, so an interrupted experiment goes on with the first unfinished arm.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses, greedy_extraction
from memsinks.corpus import Corpus
from memsinks.runs.live import LiveView
from memsinks.sinks.attach import attach, sinks_of
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import ModeLike
from memsinks.stream import ExposurePlan, Treatment
from memsinks.training.config import TrainConfig
from memsinks.training.run import TrainText, bf16_pays, train


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What distinguishes one arm.

    Attributes:
        name: of the arm.
        plan: exposures.
        train: settings.
        sinks: the pool, or None for a model without sinks.
        governed: ``bool [documents]``, which documents train with their sinks.
        modes: name -> mode in which the arm is measured; ``{"plain": None}`` without sinks.
        followed: names of the modes that are also followed during training, and in which extraction is tried.
        placebo_share: share of ungoverned passes that train with frozen sinks on.
    """

    name: str
    plan: ExposurePlan
    train: TrainConfig
    sinks: SinkConfig | None
    governed: np.ndarray
    modes: dict[str, ModeLike | None]
    followed: tuple[str, ...]
    placebo_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Documents on which arms are measured, by name, and those whose losses are drawn as curves."""

    losses: dict[str, list[TokenizedDocument]]
    extraction: list[TokenizedDocument]
    curves: dict[str, list[TokenizedDocument]]
    prefix: int
    suffix: int
    curve_points: int


@dataclass(frozen=True)
class Measured:
    """An arm's measurements; ``data`` is what its file holds."""

    data: dict[str, Any]

    def losses(self, documents: str, mode: str) -> DocumentLosses:
        """Losses on a set of documents in a mode."""
        entry = self.data["losses"][documents][mode]
        return DocumentLosses(
            tuple(entry["names"]), np.array(entry["loss_sum"]), np.array(entry["tokens"], dtype=np.int64)
        )


def documents(corpus: Corpus, indices: Sequence[int] | np.ndarray) -> list[TokenizedDocument]:
    """Documents of a corpus, for measuring."""
    return [
        TokenizedDocument(corpus.documents[i], corpus.tokens(i), int(corpus.sequence_ids[i])) for i in map(int, indices)
    ]


def run_arm(
    arm: Arm,
    corpus: Corpus,
    model_config: LlamaConfig,
    sets: Sets,
    directory: Path,
    *,
    seed: int,
    finish: Callable[[Any], None] | None = None,
    progress: bool = True,
) -> Measured:
    """Train and measure an arm, or read back what an earlier run measured.

    Args:
        arm: what to train.
        corpus: the text.
        model_config: of the plain model; every arm starts from the same values.
        sets: what to measure.
        directory: for the arm's files.
        seed: of the initial values.
        finish: called with the trained model, before it is dropped.
        progress: show progress bars.
    """
    file = directory / f"{arm.name}.json"
    fingerprint = _fingerprint(arm, corpus, model_config, sets, seed)
    if file.is_file():
        found = json.loads(file.read_text())
        if found["fingerprint"] == fingerprint:
            return Measured(found)
    torch.manual_seed(seed)
    # A copy: making a model writes to its configuration, and the next arm's fingerprint would differ.
    # SDPA's CPU kernel makes a step a fifth longer at a few hundred tokens (benchmarks/quickstart_step.json).
    model = AutoModelForCausalLM.from_config(copy.deepcopy(model_config), attn_implementation="eager")
    parameters = sum(p.numel() for p in model.parameters())
    if arm.sinks is not None:
        attach(model, arm.sinks)
    steps, length = arm.train.schedule.steps or 1, arm.train.stream.max_length
    followed = {name: arm.modes[name] for name in arm.followed}
    curve = Curve(model, sets.curves, followed, every=max(1, steps // sets.curve_points), length=length)
    with LiveView(arm.name.replace("_", " ").ljust(26), compact=True) as view:
        result = train(
            model,
            TrainText(
                corpus=corpus,
                plan=arm.plan,
                governed=arm.governed,
                treatment=Treatment(placebo_share=arm.placebo_share),
            ),
            arm.train,
            directory / f"{arm.name}-checkpoints",
            # A part of an arm is worth nothing: it starts again.
            stoppable=False,
            callbacks=[curve, *([view] if progress else [])],
        )
    data = {
        "fingerprint": fingerprint,
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": round(result.seconds, 1),
        "skipped_steps": result.skipped_steps,
        "parameters": parameters,
        "sink_parameters": sum(p.numel() for sinks in sinks_of(model) for p in sinks.parameters()),
        "curve": curve.points,
        "losses": {
            name: {mode: _losses(model, docs, value, length).to_json() for mode, value in arm.modes.items()}
            for name, docs in sets.losses.items()
        },
        "extraction": {mode: _extraction(model, sets, value) for mode, value in followed.items()},
    }
    if finish is not None:
        finish(model)
    directory.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(data))
    temporary.replace(file)
    return Measured(data)


class Curve(TrainerCallback):
    """Losses during training, at even intervals."""

    def __init__(
        self,
        model: Any,
        documents: dict[str, list[TokenizedDocument]],
        modes: dict[str, ModeLike | None],
        *,
        every: int,
        length: int,
    ) -> None:
        self.points: list[dict[str, float]] = []
        self._measure = lambda: {
            f"{name}_{mode}": _losses(model, docs, value, length).mean
            for name, docs in documents.items()
            for mode, value in modes.items()
        }
        self._every = every

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first point, before any step."""
        self.points.append({"step": state.global_step, **self._measure()})

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A point every few steps, and at the end."""
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self.points.append({"step": state.global_step, **self._measure()})


def _losses(model: Any, docs: list[TokenizedDocument], mode: ModeLike | None, length: int) -> DocumentLosses:
    return document_losses(model, docs, mode=mode, max_length=length, autocast=bf16_pays())


def _extraction(model: Any, sets: Sets, mode: ModeLike | None) -> dict[str, Any]:
    result = greedy_extraction(
        model, sets.extraction, mode=mode, prefix=sets.prefix, suffix=sets.suffix, autocast=bf16_pays()
    )
    return {
        "rate": result.rate,
        "exact": result.exact_count,
        "documents": {
            d.name: {"generated": d.generated.tolist(), "matching": d.longest_match} for d in result.documents
        },
    }


def _fingerprint(arm: Arm, corpus: Corpus, model_config: LlamaConfig, sets: Sets, seed: int) -> str:
    description = {
        "corpus": corpus.hash,
        "model": model_config.to_dict(),
        "train": asdict(arm.train),
        "sinks": None if arm.sinks is None else asdict(arm.sinks),
        "modes": {name: repr(mode) for name, mode in arm.modes.items()},
        "followed": arm.followed,
        "placebo_share": arm.placebo_share,
        "governed": hashlib.sha256(arm.governed.tobytes()).hexdigest(),
        "plan": hashlib.sha256(arm.plan.counts.tobytes()).hexdigest(),
        "sets": {name: [d.name for d in docs] for name, docs in (sets.losses | sets.curves).items()},
        "extraction": [[d.name for d in sets.extraction], sets.prefix, sets.suffix, sets.curve_points],
        "seed": seed,
        "bf16": bf16_pays(),
    }
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()
