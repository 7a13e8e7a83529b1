"""The text of a run that somebody may ask to remove: its sequence IDs, their tokens and their sources.

Shape legend: ``N`` governed IDs, ``U`` units that can be removed.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memsinks.errors import InputError
from memsinks.training.run import TrainText

Unit = Literal["id", "source"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A source whose text the plan exposes.

    Attributes:
        ids: ``int64 [*]``, its governed IDs, as places among all of them; ascending.
        documents: planned documents.
        governed: those that train with their sinks on.
    """

    ids: np.ndarray
    documents: int
    governed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class GovernedText:
    """What a run may have to remove.

    Attributes:
        ids: ``uint64 [N]``, governed sequence IDs that the plan exposes, each once, in the order of their documents.
        tokens: ``int64 [N]``, tokens of each ID's documents; exact copies count once.
        exposures: ``int64 [N]``, planned passes over them.
        documents: governed documents.
        planned_documents: all documents that the plan exposes.
        sources: of all planned documents, by name.
    """

    ids: np.ndarray
    tokens: np.ndarray
    exposures: np.ndarray
    documents: int
    planned_documents: int
    sources: dict[str, Source]

    @classmethod
    def of(cls, text: TrainText) -> "GovernedText":
        """Read it off a run's text.

        Raises:
            InputError: nothing is governed.
        """
        corpus = text.corpus
        planned = text.plan.counts > 0
        chosen = np.flatnonzero(text.governed & planned)
        if not len(chosen):
            raise InputError(
                "no planned text is governed, so nothing has sinks and nothing can be removed; set exposures.govern "
                "(or exposures.repeat) in the run file"
            )
        distinct, first, place = np.unique(corpus.sequence_ids[chosen], return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        place = rank[place]
        exposures = np.zeros(len(order), dtype=np.int64)
        np.add.at(exposures, place, text.plan.counts[chosen])
        _, once = np.unique(np.stack([place.astype(np.uint64), corpus.content_ids[chosen]]), axis=1, return_index=True)
        tokens = np.zeros(len(order), dtype=np.int64)
        np.add.at(tokens, place[once], corpus.lengths[chosen[once]])
        place_of = dict(zip(chosen.tolist(), place.tolist(), strict=True))
        return cls(
            ids=distinct[order],
            tokens=tokens,
            exposures=exposures,
            documents=len(chosen),
            planned_documents=int(planned.sum()),
            sources=_sources(corpus.sources, np.flatnonzero(planned).tolist(), place_of),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def owned_by(self, sources: Iterable[str]) -> np.ndarray:
        """Places of the IDs of these sources, ascending: ``int64 [*]``.

        Raises:
            InputError: the plan exposes no text of a source.
        """
        found = [np.empty(0, dtype=np.int64)]
        for name in sources:
            if name not in self.sources:
                close = difflib.get_close_matches(name, self.sources, n=1) or sorted(self.sources)[:3]
                hint = f"did you mean {', '.join(map(repr, close))}?" if close else "no document has a source"
                raise InputError(f"the run trains on no text of a source {name!r}; {hint}")
            found.append(self.sources[name].ids)
        return np.unique(np.concatenate(found))


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """What a request removes: one ID each, or all IDs of a source.

    Attributes:
        kind: the unit.
        starts: ``int64 [U + 1]``, where each unit's IDs begin in ``members``.
        members: ``int64 [*]``, places of IDs.
        shared: IDs that more than one unit has.
        unnamed: governed IDs of no unit, which no request can name.
    """

    kind: Unit
    starts: np.ndarray
    members: np.ndarray
    shared: int
    unnamed: int

    @classmethod
    def of(cls, text: GovernedText, kind: Unit) -> "Units":
        """The units of governed text.

        Raises:
            InputError: sources are asked for, and no governed document has one.
        """
        count = len(text)
        if kind == "id":
            return cls(kind=kind, starts=np.arange(count + 1), members=np.arange(count), shared=0, unnamed=0)
        parts = [source.ids for source in text.sources.values() if len(source.ids)]
        if not parts:
            raise InputError(
                "--unit source: no governed document has a source; prepare the corpus with --source-column, or plan "
                "with --unit id"
            )
        members = np.concatenate(parts)
        having = np.bincount(members, minlength=count)
        return cls(
            kind=kind,
            starts=np.cumsum([0, *map(len, parts)]),
            members=members,
            shared=int((having > 1).sum()),
            unnamed=int((having == 0).sum()),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def name(self) -> str:
        """The plural, for prose."""
        return "IDs" if self.kind == "id" else "sources"

    def some(self, number: int) -> str:
        """So many units, for prose."""
        return f"{number:,} {self.name.removesuffix('s') if number == 1 else self.name}"

    def ids_of(self, unit: int) -> np.ndarray:
        """Places of the IDs of a unit."""
        return self.members[self.starts[unit] : self.starts[unit + 1]]

    def counts(self, which: np.ndarray) -> np.ndarray:
        """IDs of each unit among those that ``bool [N]`` marks: ``int64 [U]``."""
        marked = np.concatenate([[0], np.cumsum(which[self.members])])
        return marked[self.starts[1:]] - marked[self.starts[:-1]]


def _sources(names: list[str | None], planned: list[int], place_of: dict[int, int]) -> dict[str, Source]:
    documents: dict[str, int] = {}
    governed: dict[str, list[int]] = {}
    for i in planned:
        name = names[i]
        if name is None:
            continue
        documents[name] = documents.get(name, 0) + 1
        if i in place_of:
            governed.setdefault(name, []).append(place_of[i])
    return {
        name: Source(
            ids=np.unique(np.array(governed.get(name, []), dtype=np.int64)),
            documents=count,
            governed=len(governed.get(name, [])),
        )
        for name, count in sorted(documents.items())
    }
