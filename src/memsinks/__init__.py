"""Train language models whose memories can be removed."""

from memsinks.checkpoint.export import export, fold
from memsinks.checkpoint.run import load, save
from memsinks.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MemsinksError,
    SequenceIdError,
    UnsupportedModelError,
    WorkerError,
)
from memsinks.ids import PLACEBO_ID, content_id, source_id
from memsinks.sinks.attach import attach, detach
from memsinks.sinks.capacity import grow, register
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import Mode, sinks_all, sinks_chosen, sinks_off, sinks_own, sinks_placebo, use_sinks
from memsinks.training.optimizer import SinkAdamW
from memsinks.training.trainer import SinkTrainer

__version__ = "0.1.0"

__all__ = [
    "PLACEBO_ID",
    "CheckpointError",
    "ConfigError",
    "InputError",
    "MemsinksError",
    "Mode",
    "SequenceIdError",
    "SinkAdamW",
    "SinkConfig",
    "SinkTrainer",
    "UnsupportedModelError",
    "WorkerError",
    "attach",
    "content_id",
    "detach",
    "export",
    "fold",
    "grow",
    "load",
    "register",
    "save",
    "sinks_all",
    "sinks_chosen",
    "sinks_off",
    "sinks_own",
    "sinks_placebo",
    "source_id",
    "use_sinks",
]
