"""How to train, one dataclass a section of a run's TOML file; :mod:`memsinks.runs.config` adds what to train."""

import math
from dataclasses import dataclass, field
from typing import Literal

from memsinks.config import Section
from memsinks.errors import ConfigError


def check_least(section: str, config: object, *names: str, least: int = 1) -> None:
    """Raise :class:`ConfigError` for the first of ``names`` whose value is set and below ``least``."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise ConfigError(f"{section}.{name} must be at least {least}, not {value}")


@dataclass(frozen=True, kw_only=True)
class StreamConfig(Section):
    """From documents to batches.

    Attributes:
        max_length: tokens in a row; longer documents are cut into chunks, none is lost.
        packed: several documents share a row, unseen by each other; else each has one of its own.
        window: chunks that are packed together; more waste less, and mix the order over a wider range.
        workers: processes that read rows ahead; 0 reads them in the training process.
    """

    max_length: int = 256
    packed: bool = False
    window: int = 4096
    workers: int = 0

    def __post_init__(self) -> None:
        check_least("stream", self, "max_length", least=3)
        check_least("stream", self, "window")
        check_least("stream", self, "workers", least=0)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Section):
    """AdamW over shared weights, and row by row over sinks.

    Attributes:
        learning_rate: peak rate of shared weights.
        beta1, beta2, eps: of AdamW.
        weight_decay: of shared matrices; norms and biases are not decayed.
        max_grad_norm: global clipping threshold; 0 switches clipping off.
        sink_lr_multiplier: sinks learn this many times as fast as shared weights.
        sink_weight_decay: decay of a sink in the steps that touch it.
        held_back: which shared weights do not learn from text whose exposures.shared_budget is used up: all of them,
            or those of the MLPs.
    """

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    sink_lr_multiplier: float = 10.0
    sink_weight_decay: float = 0.0
    held_back: Literal["all", "mlp"] = "all"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps", "sink_lr_multiplier"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"optimizer.{name} must be positive, not {getattr(self, name)}")
        for name in ("weight_decay", "max_grad_norm", "sink_weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"optimizer.{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer.{name} must be at least 0 and below 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Section):
    """Steps, and the learning rate over them.

    Attributes:
        batch_size: rows in an optimiser step, over all devices; it does not depend on how many there are.
        micro_batch_size: most rows that a device handles at a time; gradients are accumulated over as many
            micro-batches as the batch takes, the shortest rows first. By default batch_size divided by the number of
            devices, rounded up.
        steps: optimiser steps; default once through the plan. More steps go through it again, in a new order.
        warmup_steps: linear warm-up.
        kind: what follows the warm-up, down to min_lr_ratio of the peak.
        min_lr_ratio: see kind.
    """

    batch_size: int = 16
    micro_batch_size: int | None = None
    steps: int | None = None
    warmup_steps: int = 60
    kind: Literal["cosine", "linear", "constant"] = "cosine"
    min_lr_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_least("schedule", self, "batch_size", "micro_batch_size", "steps")
        check_least("schedule", self, "warmup_steps", least=0)
        if not 0 <= self.min_lr_ratio <= 1:
            raise ConfigError(f"schedule.min_lr_ratio must be between 0 and 1, not {self.min_lr_ratio}")
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ConfigError(
                f"schedule.micro_batch_size={self.micro_batch_size} is more than "
                f"schedule.batch_size={self.batch_size}, the rows of a whole step"
            )


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig(Section):
    """Speed and memory.

    Attributes:
        bf16: bfloat16 matrix products, weights in fp32; default where the processor multiplies it in hardware.
        compile: torch.compile the decoder layers.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
    """

    bf16: bool | None = None
    compile: bool = False
    gradient_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True)
class ParallelConfig(Section):
    """Several processes, started by torchrun or accelerate launch.

    Attributes:
        strategy: ddp keeps the whole model on each device; fsdp2 shards weights and optimiser state, sinks by rows.
            auto is ddp where torchrun started several processes.
        sinks: how ranks share sinks. rows exchanges the rows that a step touched; dense sums whole gradients (the
            oracle; ddp only).
    """

    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    sinks: Literal["rows", "dense"] = "rows"

    def __post_init__(self) -> None:
        if self.strategy == "fsdp2" and self.sinks == "dense":
            raise ConfigError("parallel.sinks='dense' keeps all sinks on each device; use parallel.strategy='ddp'")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Section):
    """What a run can be resumed from.

    Attributes:
        every_steps: steps between checkpoints; default a tenth of the run. With 0 there is one only when the run is
            asked to stop (SIGTERM, Ctrl-C).
        keep: the newest checkpoints that are kept.
    """

    every_steps: int | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        check_least("checkpoints", self, "every_steps", least=0)
        check_least("checkpoints", self, "keep")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(Section):
    """What a run shows and writes down.

    Attributes:
        every_steps: steps between log entries.
        evaluate_every: steps between measurements of repeated and held-out text, sinks own and off; default a
            twentieth of the run, 0 for none.
        evaluate_documents: documents of a kind that are measured then.
        report_to: trackers beside metrics.jsonl: tensorboard, trackio, or others that transformers knows.
        live: show progress and figures while training.
    """

    every_steps: int = 10
    evaluate_every: int | None = None
    evaluate_documents: int = 32
    report_to: tuple[str, ...] = ()
    live: bool = True

    def __post_init__(self) -> None:
        check_least("logging", self, "every_steps", "evaluate_documents")
        check_least("logging", self, "evaluate_every", least=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Section):
    """How to train, whatever the model and the text.

    Attributes:
        seed: of the data order, the initial weights and the choice of sinks.
    """

    seed: int = 0
    stream: StreamConfig = field(default_factory=StreamConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be at least 0 and below 2**63, not {self.seed}")
