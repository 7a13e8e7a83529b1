"""Train language models whose memories can be removed."""

import importlib
import typing

from memsinks.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    IsolationWarning,
    LedgerConflictError,
    LedgerError,
    MemsinksError,
    SequenceIdError,
    TrainingError,
    UnsupportedModelError,
    WorkerError,
)
from memsinks.ids import PLACEBO_ID, content_id, source_id

if typing.TYPE_CHECKING:
    from memsinks.checkpoint.export import export, fold
    from memsinks.checkpoint.gguf import export_gguf
    from memsinks.checkpoint.run import load, save
    from memsinks.sinks.attach import attach, detach
    from memsinks.sinks.attenuation import Attenuation, attenuated
    from memsinks.sinks.capacity import grow, register
    from memsinks.sinks.collateral import collateral
    from memsinks.sinks.config import SinkConfig
    from memsinks.sinks.modes import Mode, sinks_all, sinks_chosen, sinks_off, sinks_own, sinks_placebo, use_sinks
    from memsinks.sinks.removal import remove
    from memsinks.training.optimizer import SinkAdamW
    from memsinks.training.trainer import SinkTrainer

__version__ = "0.1.0"

__all__ = [
    "PLACEBO_ID",
    "Attenuation",
    "CheckpointError",
    "ConfigError",
    "InputError",
    "IsolationWarning",
    "LedgerConflictError",
    "LedgerError",
    "MemsinksError",
    "Mode",
    "SequenceIdError",
    "SinkAdamW",
    "SinkConfig",
    "SinkTrainer",
    "TrainingError",
    "UnsupportedModelError",
    "WorkerError",
    "attach",
    "attenuated",
    "collateral",
    "content_id",
    "detach",
    "export",
    "export_gguf",
    "fold",
    "grow",
    "load",
    "register",
    "remove",
    "save",
    "sinks_all",
    "sinks_chosen",
    "sinks_off",
    "sinks_own",
    "sinks_placebo",
    "source_id",
    "use_sinks",
]

# Imported when they are asked for: torch and transformers take seconds and half a gigabyte, which the processes that
# prepare a corpus need not spend.
_HOMES = {
    "checkpoint.export": ("export", "fold"),
    "checkpoint.gguf": ("export_gguf",),
    "checkpoint.run": ("load", "save"),
    "sinks.attach": ("attach", "detach"),
    "sinks.attenuation": ("Attenuation", "attenuated"),
    "sinks.capacity": ("grow", "register"),
    "sinks.collateral": ("collateral",),
    "sinks.config": ("SinkConfig",),
    "sinks.modes": ("Mode", "sinks_all", "sinks_chosen", "sinks_off", "sinks_own", "sinks_placebo", "use_sinks"),
    "sinks.removal": ("remove",),
    "training.optimizer": ("SinkAdamW",),
    "training.trainer": ("SinkTrainer",),
}


def __getattr__(name: str) -> typing.Any:
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
