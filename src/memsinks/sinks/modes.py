"""Evaluation modes: which sinks a forward pass switches on.

======== ==========================================================================================
own      the sinks of each token's own sequence ID (the training mode)
off      none; bitwise the plain checkpoint
chosen   the union of the sinks of named IDs, for every token
placebo  the sinks of one fixed ID that no training text has; like off where that ID owns no sinks
all      every sink, scaled by the activation ratio
======== ==========================================================================================

A mode is read once, at the top of the model's forward, and becomes per-token data; no layer looks at it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from memsinks.errors import ConfigError
from memsinks.ids import PLACEBO_ID, check_id

ModeKind = Literal["own", "off", "chosen", "placebo", "all"]


@dataclass(frozen=True)
class Mode:
    """One mode; ``ids`` names the IDs of ``chosen``, or replaces the fixed ID of ``placebo``."""

    kind: ModeKind = "own"
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(ModeKind):
            raise ConfigError(f"unknown mode {self.kind!r}; choose from {', '.join(get_args(ModeKind))}")
        if self.kind == "chosen" and not self.ids:
            raise ConfigError("mode 'chosen' needs at least one sequence ID")
        if self.ids and self.kind not in ("chosen", "placebo"):
            raise ConfigError(f"mode {self.kind!r} takes no sequence IDs")
        if self.kind == "placebo" and not self.ids:
            object.__setattr__(self, "ids", (PLACEBO_ID,))
        object.__setattr__(self, "ids", tuple(dict.fromkeys(check_id(i) for i in self.ids)))


OWN, OFF, PLACEBO, ALL = Mode("own"), Mode("off"), Mode("placebo"), Mode("all")

ModeLike = Mode | ModeKind
"""What callers may pass where a mode is wanted: a :class:`Mode`, or the name of one that needs no IDs."""


def as_mode(mode: ModeLike) -> Mode:
    """A :class:`Mode` from itself or from its name."""
    return mode if isinstance(mode, Mode) else Mode(mode)


@contextmanager
def use_sinks(model: nn.Module, mode: ModeLike | Sequence[ModeLike]) -> Iterator[nn.Module]:
    """Run the model in ``mode`` inside the block; a list gives each row of the batch a mode of its own.

    Args:
        model: a model with sinks attached, or a wrapper around one (DDP, PEFT).
        mode: one mode for all rows, or one for each.

    Raises:
        ConfigError: the model has no sinks, or the mode is unknown.
    """
    host = host_of(model)
    several = isinstance(mode, Sequence) and not isinstance(mode, str)
    # The type checker does not follow ``several``.
    new = tuple(as_mode(m) for m in mode) if several else as_mode(mode)  # type: ignore[union-attr, arg-type]
    previous, host.sink_mode = host.sink_mode, new
    try:
        yield model
    finally:
        host.sink_mode = previous


def sinks_off(model: nn.Module) -> AbstractContextManager[nn.Module]:
    """:func:`use_sinks` with no sinks."""
    return use_sinks(model, OFF)


def sinks_own(model: nn.Module) -> AbstractContextManager[nn.Module]:
    """:func:`use_sinks` with each token's own sinks."""
    return use_sinks(model, OWN)


def sinks_chosen(model: nn.Module, ids: Iterable[int]) -> AbstractContextManager[nn.Module]:
    """:func:`use_sinks` with the sinks of the IDs ``ids`` for every token."""
    return use_sinks(model, Mode("chosen", tuple(ids)))


def sinks_placebo(model: nn.Module, sequence_id: int = PLACEBO_ID) -> AbstractContextManager[nn.Module]:
    """:func:`use_sinks` with the sinks of one unrelated ID for every token."""
    return use_sinks(model, Mode("placebo", (sequence_id,)))


def sinks_all(model: nn.Module) -> AbstractContextManager[nn.Module]:
    """:func:`use_sinks` with every sink, scaled by the activation ratio."""
    return use_sinks(model, ALL)


def host_of(model: nn.Module) -> Any:
    """The model with sinks inside any wrappers.

    Raises:
        ConfigError: there is none.
    """
    for module in model.modules():
        # Not hasattr: PEFT's wrappers answer for the model inside, and would keep the new mode for themselves.
        if "sink_mode" in vars(module):
            return module
    raise ConfigError("this model has no sinks; call memsinks.attach(model, ...) or memsinks.load(...) first")
