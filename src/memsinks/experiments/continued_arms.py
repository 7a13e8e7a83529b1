"""The arms of continued pretraining: what learns, how fast, and from what."""

from collections.abc import Mapping
from typing import Any

from memsinks.baselines.adapters import Adapter, Frozen, Lora
from memsinks.experiments.lab import Arm
from memsinks.sinks.modes import ModeKind

MODES: tuple[ModeKind, ...] = ("own", "off", "placebo")
_SHORT = {"checkpoints.every_steps": 0}
"""A checkpoint is 2 GB: an arm that is killed starts again, one that is asked to stop leaves one."""

LORA_RATE = 1e-3
"""Twice the learning rate of full fine-tuning, with an update scaled by 4."""
SLOW_RATE = 1.25e-4
"""A quarter of full fine-tuning's."""
SINK_SETTINGS: dict[str, Any] = {
    "sinks.attach": True,
    "sinks.pool": 1024,
    "sinks.active": 128,
    "exposures.govern": "repeated",
    "optimizer.sink_lr_multiplier": 5.0,
}
"""Governed text with its sinks on, other text with none; two thirds of the MLP's width as a pool."""
PORT_SETTINGS: dict[str, Any] = SINK_SETTINGS | {
    "sinks.pool": 0.3,
    "sinks.active": 2,
    "exposures.govern": "all",
    "optimizer.learning_rate": LORA_RATE,
    "optimizer.sink_lr_multiplier": 1.0,
}
"""A published port of sinks to LoRA fine-tuning (github.com/NietZteiN/router, memsinks_tofu): a pool of 30 % of the
MLP, 12 of its 8,192 neurons for each author, 2 of 1,536 here, beside an adapter that learns from the same text at the
same rate. There a slice masks neurons of the adapter's own update; here it is sinks beside the adapter."""


def _arm(name: str, label: str, settings: Mapping[str, Any] | None = None, adapter: Adapter | None = None) -> Arm:
    settings = _SHORT | dict(settings or {})
    modes = MODES if settings.get("sinks.attach") else ()
    return Arm(name=name, label=label, start=BASE, settings=settings, adapter=adapter, modes=modes)


def _sinks(name: str, label: str, adapter: Adapter | None = None, **changes: Any) -> Arm:
    settings = SINK_SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}
    return _arm(f"sinks_{name}", f"Sinks, {label}", settings, adapter)


def _port(name: str, label: str, *cures: Mapping[str, Any], isolated: bool = False) -> Arm:
    settings = PORT_SETTINGS.copy()
    for cure in cures:
        settings |= cure
    return _arm(name, label, settings, Lora(isolated=isolated))


_RATE = {"optimizer.sink_lr_multiplier": 5.0}
_POLICY = {"exposures.govern": "repeated", "exposures.shared_budget": 0}
_SIZE = {key: SINK_SETTINGS[key] for key in ("sinks.pool", "sinks.active")}

BASE = Arm(name="base", label="Pretrained model, untouched")
FULL = _arm("full", "Full fine-tuning")
LORA = _arm("lora", "LoRA fine-tuning", {"optimizer.learning_rate": LORA_RATE}, Lora())
SINKS = {
    "frozen": _sinks("frozen", "all else frozen", Frozen()),
    "x1": _sinks("rate_1", "learning rate x1", optimizer__sink_lr_multiplier=1.0),
    "x5": _sinks("rate_5", "learning rate x5"),
    "x20": _sinks("rate_20", "learning rate x20", optimizer__sink_lr_multiplier=20.0),
    "slow": _sinks(
        "slow",
        "x20, shared weights at a quarter",
        optimizer__learning_rate=SLOW_RATE,
        optimizer__sink_lr_multiplier=20.0,
    ),
    "r=2": _sinks("budget_2", "shared weights learn twice", exposures__shared_budget=2),
    "r=0": _sinks("budget_0", "shared weights learn other text only", exposures__shared_budget=0),
}
"""By the short name that figures use."""
PORT = {
    "port": _port("port", "Port: LoRA and sinks, as published"),
    "isolation": _port("port_isolation", "Port, idle sinks isolated", isolated=True),
    "rate": _port("port_rate", "Port, sinks learn x5", _RATE),
    "policy": _port("port_policy", "Port, LoRA held back from governed text", _POLICY),
    "size": _port("port_size", "Port, 128 sinks for 2", _SIZE),
    "all": _port("port_all", "Port, all four", _RATE, _POLICY, _SIZE, isolated=True),
}
"""The port, each cure by itself, and all of them."""
WITH_SINKS = (*SINKS.values(), *PORT.values())
TRAINED = (FULL, LORA, *WITH_SINKS)
