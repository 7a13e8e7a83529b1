"""The figures of a run while it trains, from one source.

:class:`Gauge` turns the trainer's counters into flat names (``tokens_per_second``, ``exposures_hist/2-3``), which the
trainer merges into its logs. So the same numbers reach every callback: ``metrics.jsonl``, the live view, and
transformers' own TensorBoard and trackio callbacks.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks.sinks.attach import sinks_of
from memsinks.training.exposures import ExposureCounter
from memsinks.training.trainer import SinkTrainer

HISTOGRAM = "exposures_hist/"


class Meter(Protocol):
    """What a trainer counts; all ranks read it together, when training begins and with each log entry."""

    @property
    def tokens(self) -> int:
        """Tokens predicted since the run began, over all ranks, also those before a resume."""

    @property
    def slots(self) -> int:
        """Token slots of the same batches, padding included."""

    @property
    def padding(self) -> int:
        """Slots that held padding."""

    @property
    def waiting_seconds(self) -> float:
        """Time that this process's training loop waited for the loader."""

    @property
    def skipped_steps(self) -> int:
        """Optimiser steps left out because a gradient was not finite."""

    @property
    def exposures(self) -> ExposureCounter:
        """Passes over text by sequence ID."""


class RankMeter:
    """The :class:`Meter` of a trainer, over all its ranks; all of them read it at the same time."""

    def __init__(self, trainer: SinkTrainer) -> None:
        self._trainer = trainer

    @property
    def tokens(self) -> int:
        """Over all ranks."""
        return self._trainer.total(self._trainer.exposures.tokens)

    @property
    def slots(self) -> int:
        """Over all ranks."""
        return self._trainer.total(self._trainer.slots)

    @property
    def padding(self) -> int:
        """Over all ranks."""
        return self._trainer.total(self._trainer.padding)

    @property
    def waiting_seconds(self) -> float:
        """Of this rank."""
        return self._trainer.waiting_seconds

    @property
    def skipped_steps(self) -> int:
        """The same on every rank."""
        return self._trainer.skipped_steps

    @property
    def exposures(self) -> ExposureCounter:
        """Over all ranks."""
        return self._trainer.all_exposures()


class _Reading(NamedTuple):
    step: int
    clock: float
    paused: float
    tokens: int
    slots: int
    padding: int
    waiting: float


class Gauge(TrainerCallback):
    """Speed, shares and the exposure histogram, from a trainer's counters. One gauge lasts one ``train()``.

    Args:
        meter: the counters.
        flops_per_token: floating-point operations that training spends on one token; None leaves out ``mfu``.
        peak_flops: what all devices together do in a second at best; None leaves out ``mfu``.
        histogram_every: steps between exposure histograms; there is one at the end in any case.
        clock: seconds from any fixed point.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        flops_per_token: float | None = None,
        peak_flops: float | None = None,
        histogram_every: int = 100,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._meter = meter
        self._peak_tokens = peak_flops / flops_per_token if peak_flops and flops_per_token else None
        self._histogram_every = histogram_every
        self._clock = clock
        self._paused = 0.0
        self._started = clock()
        self._last: _Reading | None = None
        self.elapsed_before = 0.0
        """Seconds that the run had taken before this process resumed it."""

    def extra_logs(self, logs: Mapping[str, float], state: TrainerState) -> dict[str, float]:
        """What to add to ``logs`` before the callbacks see it: nothing unless these are a training step's logs.

        All ranks call it, for the meter may ask them all.
        """
        if "loss" not in logs:
            return {}
        now, last = self._read(state.global_step), self._last or self._read(0)
        self._last = now
        seconds = now.clock - last.clock - (now.paused - last.paused)
        figures: dict[str, float] = {"tokens": now.tokens}
        if seconds > 0:
            figures["tokens_per_second"] = (now.tokens - last.tokens) / seconds
            if self._peak_tokens is not None:
                figures["mfu"] = figures["tokens_per_second"] / self._peak_tokens
            figures["waiting_share"] = (now.waiting - last.waiting) / seconds
        if now.slots:
            # Of the run so far: unlike the interval's, it does not depend on where a resume cut the interval.
            figures["padding_share"] = now.padding / now.slots
        figures["elapsed_seconds"] = self.elapsed_before + now.clock - self._started
        figures["skipped_steps"] = self._meter.skipped_steps
        every = self._histogram_every
        # From the history, which a checkpoint keeps: a resumed run draws the histogram at the same steps.
        before = next((int(entry["step"]) for entry in reversed(state.log_history) if "loss" in entry), 0)
        if now.step // every > before // every or now.step >= state.max_steps:
            counts = exposure_bins(self._meter.exposures.counts.values())
            figures |= {f"{HISTOGRAM}{name}": count for name, count in counts.items()}
        return figures

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside the block is not training time: it does not lower ``tokens_per_second``."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._started = self._clock()
        self._last = self._read(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave the time that writing the checkpoint took out of the next interval."""
        if self._last is not None and self._last.step == state.global_step:
            self._paused += self._clock() - self._last.clock - (self._paused - self._last.paused)

    def _read(self, step: int) -> _Reading:
        meter = self._meter
        return _Reading(
            step, self._clock(), self._paused, meter.tokens, meter.slots, meter.padding, meter.waiting_seconds
        )


def exposure_bins(counts: Iterable[int]) -> dict[str, int]:
    """How many counts are 1, 2-3, 4-7 and so on up to the largest; counts of 0 are left out."""
    values = np.fromiter(counts, dtype=np.int64)
    values = values[values > 0]
    # frexp's exponent is the number of binary digits: 1 for 1, 2 for 2 and 3, and so on.
    sizes = np.bincount(np.frexp(values.astype(np.float64))[1])[1:] if values.size else np.zeros(0, np.int64)
    return {("1" if i == 0 else f"{2**i}-{2 ** (i + 1) - 1}"): int(n) for i, n in enumerate(sizes)}


def training_flops_per_token(model: nn.Module, length: int) -> float:
    """Floating-point operations of a forward and a backward pass, for one token whose sinks are on.

    Six for each weight of a matrix product and twelve for each of a layer's attention width and position seen, as in
    the PaLM paper (arXiv 2204.02311, appendix B), which counts what is needed, not what is recomputed. Of the sinks
    only active ones count. Take it before the model is wrapped or sharded.

    Args:
        model: a causal language model of transformers, with or without sinks.
        length: tokens in a row.
    """
    sinks = list(sinks_of(model))
    # Looking up an embedding multiplies nothing; as the weight of the head, which may be the same, it counts.
    multiplied: dict[int, Any] = {
        id(module.weight): module.weight
        for module in model.modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter) and not isinstance(module, nn.Embedding)
    }
    weights = sum(p.numel() for p in multiplied.values() if p.dim() > 1)
    plain: Any = model
    if sinks:
        share = plain.sink_config.active / plain.sink_config.pool
        weights += round(share * sum(p.numel() for module in sinks for p in module.parameters()))
    config = plain.config
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 6 * weights + 12 * config.num_hidden_layers * width * length
