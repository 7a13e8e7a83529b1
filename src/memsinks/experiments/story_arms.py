"""The arms of the story experiments."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memsinks.experiments.lab import Arm
from memsinks.sinks.modes import ModeKind

SINK_MODES: tuple[ModeKind, ...] = ("own", "off", "placebo", "all")

STANDARD = Arm(name="standard", label="Standard training")
DEDUPLICATED = Arm(name="deduplicated", label="Deduplicated, once through", exposures=1, equal_steps=False)
DEDUPLICATED_STEPS = Arm(name="deduplicated_steps", label="Deduplicated, equal steps", exposures=1)
UNSEEN = Arm(name="unseen", label="Never seen, once through", exposures=0, equal_steps=False)
UNSEEN_STEPS = Arm(name="unseen_steps", label="Never seen, equal steps", exposures=0)
REFERENCES = (STANDARD, DEDUPLICATED, DEDUPLICATED_STEPS, UNSEEN, UNSEEN_STEPS)

PAPER: dict[str, Any] = {
    "sinks.attach": True,
    "sinks.shared": 0.7,
    "sinks.active": 0.3,
    "optimizer.sink_lr_multiplier": 1.0,
    "exposures.govern": "all",
}
"""The published setting: 70 % of the MLP shared, 30 % of the rest on for each sequence, one learning rate."""

SPARSE: dict[str, Any] = {
    "sinks.attach": True,
    "sinks.pool": 2048,
    "sinks.active": 256,
    "optimizer.sink_lr_multiplier": 5.0,
    "exposures.govern": "repeated",
}
"""A larger sparse pool in all layers that learns faster, for the repeated stories only."""

SINKS_PAPER = Arm(name="sinks_paper", label="Sinks, paper's setting", settings=PAPER, modes=SINK_MODES)
SINKS = Arm(name="sinks", label="Sinks, all layers, learning rate x5", settings=SPARSE, modes=SINK_MODES)

MASKING: dict[str, Any] = {
    "sinks.attach": True,
    "sinks.shared": 0.7,
    "sinks.active": 1.0,
    "optimizer.sink_lr_multiplier": 1.0,
    "exposures.govern": "repeated",
    "exposures.placebo_share": 1.0,
    "exposures.shared_budget": 0,
}
"""Gradient masking: the whole block is always on, repeated stories train it and others train the rest."""

MASKING_MLP = Arm(
    name="masking_mlp",
    label="Gradient masking, MLP weights",
    settings=MASKING | {"optimizer.held_back": "mlp"},
    modes=("own", "off"),
)
MASKING_ALL = Arm(name="masking_all", label="Gradient masking, every weight", settings=MASKING, modes=("own", "off"))


def capped(times: int) -> Arm:
    """Each repeated story at most so often, in as many steps as standard training."""
    return Arm(name=f"cap_{times}", label=f"Capped at {times}", exposures=times)


def with_sinks(name: str, label: str, **changes: Any) -> Arm:
    """:data:`SPARSE` with other values; keys have ``__`` for the dot."""
    settings = SPARSE | {key.replace("__", "."): value for key, value in changes.items()}
    return Arm(name=name, label=label, settings=settings, modes=SINK_MODES)


def goldfish(one_in: int, base: Mapping[str, Any] | None = None) -> Arm:
    """The goldfish loss on all text, without sinks or with those of ``base``."""
    settings = {**(base or {}), "exposures.goldfish": one_in}
    if base is None:
        return Arm(name=f"goldfish_{one_in}", label=f"Goldfish, 1 in {one_in} left out", settings=settings)
    label = f"Sinks and goldfish, 1 in {one_in} left out"
    return Arm(name=f"sinks_goldfish_{one_in}", label=label, settings=settings, modes=SINK_MODES)


def budget(times: int) -> Arm:
    """Shared weights learn from each repeated story so often, then only its sinks do."""
    label = f"Sinks, shared weights learn {times} times" if times else "Sinks as adapters: shared weights never learn"
    return with_sinks(f"sinks_budget_{times}", label, exposures__shared_budget=times)


def first(until: float, base: Arm, label: str) -> Arm:
    """Repeated stories come in the first part of training; the rest is other stories."""
    settings = dict(base.settings) | {"exposures.governed_until": until}
    return replace(base, name=f"{base.name}_until_{until:g}", label=f"{label} first {until:.0%}", settings=settings)


def rate(times: float) -> Arm:
    """Another learning rate of sinks."""
    return with_sinks(f"sinks_rate_{times:g}", f"Sinks, learning rate x{times:g}", optimizer__sink_lr_multiplier=times)


def early(times: float = 5) -> Arm:
    """Sinks in the first half of the layers only, with a learning rate of theirs."""
    name, label = "sinks_early", "Sinks, early half of the layers"
    if times != SPARSE["optimizer.sink_lr_multiplier"]:
        name, label = f"{name}_rate_{times:g}", f"{label}, learning rate x{times:g}"
    return with_sinks(name, label, sinks__layers="early", optimizer__sink_lr_multiplier=float(times))


def pool(rows: int, active: int, times: float | None = None) -> Arm:
    """Another pool, and perhaps another learning rate of it."""
    name, label = f"sinks_pool_{rows}_{active}", f"Sinks, pool {rows}, {active} active"
    if times is None:
        return with_sinks(name, label, sinks__pool=rows, sinks__active=active)
    name, label = f"{name}_rate_{times:g}", f"{label}, learning rate x{times:g}"
    return with_sinks(name, label, sinks__pool=rows, sinks__active=active, optimizer__sink_lr_multiplier=times)


def paper_repeated(times: float) -> Arm:
    """:data:`PAPER_REPEATED` with another learning rate of sinks."""
    name, label = f"{PAPER_REPEATED.name}_rate_{times:g}", f"{PAPER_REPEATED.label}, learning rate x{times:g}"
    settings = dict(PAPER_REPEATED.settings) | {"optimizer.sink_lr_multiplier": times}
    return replace(PAPER_REPEATED, name=name, label=label, settings=settings)


PAPER_REPEATED = Arm(
    name="sinks_paper_repeated",
    label="Sinks, paper's split, for repeated stories only",
    settings=PAPER | {"exposures.govern": "repeated"},
    modes=SINK_MODES,
)
PAPER_RATE = Arm(
    name="sinks_paper_rate_5",
    label="Sinks, paper's setting, learning rate x5",
    settings=PAPER | {"optimizer.sink_lr_multiplier": 5.0},
    modes=SINK_MODES,
)
