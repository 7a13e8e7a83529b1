"""The settings of a training run, one dataclass a section of the TOML file."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.sinks.config import Allocation, Init, Kernel
from memsinks.stream.plan import PolicyKind


def _positive(section: str, config: object, *names: str, least: int = 1) -> None:
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
        _positive("stream", self, "max_length", least=3)
        _positive("stream", self, "window")
        _positive("stream", self, "workers", least=0)


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
    """

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    sink_lr_multiplier: float = 5.0
    sink_weight_decay: float = 0.0

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
            micro-batches as the batch takes. By default batch_size divided by the number of devices, rounded up.
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
        _positive("schedule", self, "batch_size", "micro_batch_size", "steps")
        _positive("schedule", self, "warmup_steps", least=0)
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
        compile: torch.compile the model.
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
        _positive("checkpoints", self, "every_steps", least=0)
        _positive("checkpoints", self, "keep")


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
        _positive("logging", self, "every_steps", "evaluate_documents")
        _positive("logging", self, "evaluate_every", least=0)


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


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(Section):
    """The text.

    Attributes:
        path: a folder that memsinks prepare wrote.
        verify: compare every file of it with its hash first.
    """

    path: Path = Path("corpus")
    verify: bool = True


@dataclass(frozen=True, kw_only=True)
class ExposureConfig(Section):
    """How often each document is seen, and which documents get sinks.

    Attributes:
        plan: Parquet file with columns document and exposures; default: every training document once.
        repeat: names of documents to repeat.
        times: exposures of each document of repeat.
        cap: most exposures of any document; default no limit.
        govern: documents that train with their sinks: all, repeated (planned at least twice), sources, column.
        govern_values: the sources, or the values of govern_column.
        govern_column: metadata column that says which documents are governed.
        placebo_share: share of the other documents' passes that train with a governed document's sinks on, which do
            not learn from them: it makes the shared neurons robust to sinks that are on.
    """

    plan: Path | None = None
    repeat: tuple[str, ...] = ()
    times: int = 64
    cap: int | None = None
    govern: PolicyKind = "repeated"
    govern_values: tuple[str, ...] = ()
    govern_column: str | None = None
    placebo_share: float = 0.0

    def __post_init__(self) -> None:
        _positive("exposures", self, "times", "cap")
        if not 0 <= self.placebo_share <= 1:
            raise ConfigError(f"exposures.placebo_share must be between 0 and 1, not {self.placebo_share}")
        if (self.govern in ("sources", "column")) != bool(self.govern_values):
            raise ConfigError(
                f"exposures.govern={self.govern!r} takes {'no' if self.govern_values else 'at least one of'} "
                "exposures.govern_values"
            )
        if (self.govern == "column") != (self.govern_column is not None):
            raise ConfigError("exposures.govern_column goes with exposures.govern='column', and only with it")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The model without its sinks.

    Attributes:
        pretrained: folder or name of a pretrained model to continue from; one with sinks keeps them.
        config: config.json of a transformers model to train from scratch.
        hidden, layers, heads, width: shape of a small Llama, trained where neither of the two is given; width is the
            MLP's.
        attention: attn_implementation, or auto for one that fits the machine and the rows.
    """

    pretrained: str | None = None
    config: Path | None = None
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    width: int = 688
    attention: str = "auto"

    def __post_init__(self) -> None:
        _positive("model", self, "hidden", "layers", "heads", "width")
        if self.pretrained is not None and self.config is not None:
            raise ConfigError(
                "model.pretrained continues a model and model.config starts a new one; give one of the two"
            )
        if self.pretrained is None and self.config is None and self.hidden % self.heads:
            raise ConfigError(f"model.hidden={self.hidden} is not a multiple of model.heads={self.heads}")


@dataclass(frozen=True, kw_only=True)
class SinksConfig(Section):
    """The sinks.

    Attributes:
        attach: give the model sinks; without them this trains a baseline.
        pool: sinks in each layer: a count, or a fraction of the MLP's width.
        active: sinks that one sequence ID switches on: a count, or a fraction of the pool.
        shared: the paper's split instead of pool: this fraction of the MLP's width stays shared, the rest is the pool.
        allocation: hashed (sequence IDs share the pool), disjoint (each governed ID owns rows), hybrid (the IDs of
            owners own rows, all others share the rest).
        owned: with hybrid, rows that are kept for owners.
        owners: with hybrid, the sources whose sequence IDs own rows.
        grow: with a pretrained model that has sinks, so many more in each layer, for IDs it was not trained on.
        block: rows are chosen in runs of this many neighbours.
        init: random, noop (the sinks change nothing at first), or auto: noop for a pretrained model.
        kernel: gathered computes active rows only; dense computes the pool and masks it (the oracle).
    """

    attach: bool = True
    pool: int | float | None = None
    active: int | float | None = None
    shared: float | None = None
    allocation: Allocation = "hashed"
    owned: int | float = 0
    owners: tuple[str, ...] = ()
    grow: int = 0
    block: int = 1
    init: Init = "auto"
    kernel: Kernel = "gathered"

    def __post_init__(self) -> None:
        _positive("sinks", self, "grow", least=0)
        _positive("sinks", self, "block")
        for name in ("pool", "active"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"sinks.{name} must be a positive count or fraction, not {value}")
        if isinstance(self.active, float) and self.active > 1:
            raise ConfigError(f"sinks.active={self.active} is a fraction of the pool and must be at most 1.0")
        if not 0 <= self.owned < math.inf:
            raise ConfigError(f"sinks.owned must be a count or fraction of 0 or more, not {self.owned}")
        if self.shared is not None and not 0 < self.shared < 1:
            raise ConfigError(f"sinks.shared must be a fraction between 0 and 1, not {self.shared}")
        if self.shared is not None and self.pool is not None:
            raise ConfigError("sinks.shared makes the rest of the MLP the pool and sinks.pool sizes it; give one")
        if self.allocation != "hybrid" and (self.owned or self.owners):
            raise ConfigError("sinks.owned and sinks.owners go with sinks.allocation='hybrid' only")
        if self.allocation == "hybrid" and not (self.owned and self.owners):
            raise ConfigError("sinks.allocation='hybrid' needs sinks.owned (rows) and sinks.owners (sources)")


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """One run of ``memsinks train``: everything that leads to its result.

    Attributes:
        output: where the model goes; checkpoints, log and metrics go to <output>-run beside it.
    """

    output: Path = Path("run")
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    sinks: SinksConfig = field(default_factory=SinksConfig)
    exposures: ExposureConfig = field(default_factory=ExposureConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sinks.attach:
            if self.sinks.shared is not None and self.model.pretrained is not None:
                raise ConfigError(
                    "sinks.shared splits the MLP of a new model, but model.pretrained is given; use sinks.pool"
                )
            if self.sinks.grow and self.model.pretrained is None:
                raise ConfigError("sinks.grow enlarges the pool of a trained model; give model.pretrained")
        elif self.exposures.placebo_share:
            raise ConfigError("exposures.placebo_share needs sinks, but sinks.attach is false")
