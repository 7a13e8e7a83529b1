"""From the names in a request to the mode that it may run in, or a refusal. Nothing here knows of HTTP."""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Literal

from memsinks.errors import ConfigError, SequenceIdError
from memsinks.ids import parse_id
from memsinks.serving.names import Names
from memsinks.sinks.modes import OFF, Mode

Reason = Literal["malformed", "unknown", "refused", "too many", "unavailable"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Sinks that a request asks for: those of everything that it names.

    Attributes:
        sources: names of sources.
        documents: names of documents.
        ids: sequence IDs, 16 hexadecimal digits each.
    """

    sources: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Why a request may not have the sinks that it asks for.

    Attributes:
        reason: its kind.
        message: for who asked; it says nothing of a name but that it is not to be had.
    """

    reason: Reason
    message: str


class Guard:
    """Decides which sinks a request may switch on. Thread-safe if ``excluded`` is.

    Args:
        trained: sequence IDs that trained with sinks; no other can be named.
        excluded: tells the IDs that must stay off now, removed and denied; None if it cannot tell, and then all must.
        names: of sources and documents; without any, only IDs can be named.
        max_ids: most IDs that may be on at once.

    Raises:
        ConfigError: ``max_ids`` is below 1.
    """

    def __init__(
        self,
        trained: Iterable[int],
        *,
        excluded: Callable[[], Set[int] | None],
        names: Names | None = None,
        max_ids: int = 100,
    ) -> None:
        if max_ids < 1:
            raise ConfigError(f"max_ids is {max_ids}; at least one ID has to be allowed")
        self._trained = frozenset(trained)
        self._excluded = excluded
        self._sources = {} if names is None else names.sources
        self._documents = {} if names is None else names.documents
        self._max_ids = max_ids

    def mode(self, wanted: Wanted | None) -> Mode | Refusal:
        """The mode for a request; None asks for no sinks.

        IDs that are excluded are left out of a name that has others; a name with none left is refused.
        """
        if wanted is None:
            return OFF
        excluded = self._excluded()
        if excluded is None:
            return Refusal("unavailable", "sinks cannot be switched on at the moment; ask without them, or later")
        chosen: set[int] = set()
        try:
            for kind, name, ids in self._named(wanted):
                if not ids:
                    return Refusal("unknown", f"there are no sinks of {kind} {name!r}")
                allowed = ids - excluded
                if not allowed:
                    return Refusal("refused", f"the sinks of {kind} {name!r} may not be switched on")
                chosen |= allowed
        except SequenceIdError as error:
            return Refusal("malformed", str(error))
        if not chosen:
            return Refusal("malformed", "sinks: name at least one source, document or ID, or give 'off'")
        if len(chosen) > self._max_ids:
            return Refusal(
                "too many",
                f"what is named has {len(chosen)} sequence IDs, and at most {self._max_ids} may be on at once; name "
                "less",
            )
        return Mode("chosen", tuple(sorted(chosen)))

    def permits(self, mode: Mode) -> bool:
        """Whether a mode that :meth:`mode` gave may still run."""
        if mode == OFF:
            return True
        excluded = self._excluded()
        return excluded is not None and excluded.isdisjoint(mode.ids)

    def _named(self, wanted: Wanted) -> Iterator[tuple[str, str, frozenset[int]]]:
        for name in wanted.sources:
            yield "source", name, self._sources.get(name, frozenset())
        for name in wanted.documents:
            yield "document", name, self._documents.get(name, frozenset())
        for name in wanted.ids:
            yield "ID", name, self._trained & {parse_id(name)}
