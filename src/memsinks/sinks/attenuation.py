"""Scale the sinks of some IDs instead of removing them: a gentler thing than a removal, which can be undone.

Only the output rows (``down``) are scaled, so the sinks' contribution is. Their other rows stay as they are, also at
factor 0: what a model holds of a text is still there to be read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from memsinks.errors import ConfigError, InputError, SequenceIdError
from memsinks.ids import check_id, parse_id
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.layer import Sinks
from memsinks.sinks.modes import Mode, host_of
from memsinks.sinks.routing import fixed_rows


@dataclass(frozen=True)
class Attenuation:
    """Sinks that are scaled.

    Attributes:
        ids: sequence IDs, at least one.
        factor: in [0, 1]; 1 changes nothing, and at 0 the sinks add nothing.
        name: of whose they are, for people; a source, for example.

    Raises:
        ConfigError: no ID is given, or the factor is out of range.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """

    ids: tuple[int, ...]
    factor: float
    name: str = ""

    def __post_init__(self) -> None:
        if not self.ids:
            raise ConfigError("an attenuation needs at least one sequence ID")
        # Also what is no number.
        if not 0 <= self.factor <= 1:
            raise ConfigError(
                f"a factor of {self.factor}: sinks are attenuated by a factor between 0 (they add nothing) and 1 "
                "(nothing changes); that is no removal, which memsinks.remove makes"
            )
        object.__setattr__(self, "ids", tuple(dict.fromkeys(check_id(i) for i in self.ids)))


def named_attenuations(
    factors: Mapping[str, float], sources: Mapping[str, Set[int]], trained: Set[int]
) -> tuple[Attenuation, ...]:
    """Attenuations by names of sources, or sequence IDs of 16 hexadecimal digits.

    Args:
        factors: by name.
        sources: the sequence IDs of each source.
        trained: IDs that have sinks now; others of a source are left out.

    Raises:
        InputError: a name is neither, or has no sinks.
        ConfigError: a factor is not in [0, 1].
    """
    found = []
    for name, factor in factors.items():
        ids = sources.get(name, frozenset())
        if not ids:
            try:
                ids = {parse_id(name)}
            except SequenceIdError as error:
                raise InputError(f"there is no source {name!r} to attenuate; {_hint(name, sources)}") from error
        if not ids & trained:
            raise InputError(
                f"{name!r} has no sinks to attenuate: its text trained without any, or they were removed; leave it out"
            )
        found.append(Attenuation(tuple(sorted(ids & trained)), factor, name))
    return tuple(found)


def _hint(name: str, sources: Mapping[str, Set[int]]) -> str:
    if not sources:
        return "sources are known by the corpus or a file of names: give that, or a sequence ID"
    close = get_close_matches(name, sources, 1)
    return f"did you mean {close[0]!r}?" if close else "give one that trained with sinks, or a sequence ID"


@contextmanager
def attenuated(model: nn.Module, ids: Iterable[int], factor: float) -> Iterator[nn.Module]:
    """Inside the block, the sinks that ``ids`` select contribute ``factor`` times as much, whoever selects them.

    This is no removal: the weights come back, bit for bit, at the end, and a checkpoint does not change. IDs that share
    some of these sinks have them scaled too; :func:`memsinks.collateral` says how large a part of theirs that is. An ID
    without sinks has nothing to scale. Blocks inside each other multiply.

    Args:
        model: a model with sinks attached, or a wrapper around one; inside the block nothing may train it, and sinks
            are neither added nor removed.
        ids: sequence IDs, at least one.
        factor: in [0, 1]; at 1 every output keeps its bits, and at 0 the sinks add nothing.

    Raises:
        ConfigError: the model has no sinks, no ID is given, the factor is out of range, or the pool is spread over
            ranks.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """
    places = _places(model, Attenuation(tuple(ids), factor))
    kept = [(sinks.down, rows, sinks.down.detach()[rows]) for sinks, rows in places]
    try:
        with torch.no_grad():
            for down, rows, values in kept:
                down[rows] = values * factor
        yield model
    finally:
        with torch.no_grad():
            for down, rows, values in kept:
                down[rows] = values


def attenuate(model: nn.Module, attenuations: Sequence[Attenuation]) -> None:
    """Scale the sinks of a model in memory for good, for one that is loaded to be served and not saved again.

    Sinks that several attenuations reach are scaled by each.

    Raises:
        ConfigError: the model has no sinks, or the pool is spread over ranks.
    """
    for attenuation in attenuations:
        with torch.no_grad():
            for sinks, rows in _places(model, attenuation):
                sinks.down[rows] = sinks.down[rows] * attenuation.factor


def attenuated_down(model: nn.Module, attenuations: Sequence[Attenuation]) -> list[Tensor]:
    """The output rows of each layer with sinks, as :func:`attenuate` would leave them; the model is not changed.

    Raises:
        ConfigError: the model has no sinks, or the pool is spread over ranks.
    """
    found = [sinks.down.detach() for sinks in sinks_of(model)]
    for attenuation in attenuations:
        for number, (_, rows) in enumerate(_places(model, attenuation)):
            scaled = found[number][rows] * attenuation.factor
            found[number] = found[number].index_copy(0, rows, scaled)
    return found


def _places(model: nn.Module, attenuation: Attenuation) -> list[tuple[Sinks, Tensor]]:
    """Each layer's sinks, with the rows to scale."""
    host = host_of(model)
    layers = list(sinks_of(host))
    if any(sinks.shard is not None for sinks in layers):
        raise ConfigError("these sinks are spread over ranks; load the saved model in one process to attenuate some")
    mode, count = Mode("chosen", attenuation.ids), host.config.num_hidden_layers
    rows, _ = fixed_rows(mode, host.sink_config, count, layers[0].up.device, host.sink_allocation)
    return list(zip(layers, rows, strict=True))
