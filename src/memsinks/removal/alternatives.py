"""What could be done instead of a removal as it was planned, and what each would cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from memsinks.removal.policy import Choice
from memsinks.removal.residue import Residue, relatives
from memsinks.removal.rows import Cut, cut
from memsinks.removal.scope import Scope
from memsinks.removal.subject import Subject
from memsinks.sinks.collateral import Collateral

Way = Literal["remove-shared", "keep-shared", "everything", "deny", "attenuate"]


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One way to answer the request.

    Attributes:
        way: the request with shared rows removed, or kept; all sinks dropped; or, both reversible, the deny-list and
            attenuation.
        rows: that leave the files, over all layers.
        stay: rows of the request that stay in them.
        survivors: IDs that still have sinks afterwards, all but those of the request.
        affected: IDs outside the request of which rows go, or under attenuation are scaled.
        sources: outside the request, with an affected ID among those that were looked at.
        mean, most: fraction of its rows that an ID outside the request loses, or has scaled.
        complete: whether a certificate could say that the removal is complete, if the verification passes.
        hindered: why not.
    """

    way: Way
    rows: int
    stay: int
    survivors: int
    affected: int
    sources: int
    mean: float
    most: float
    complete: bool
    hindered: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Disjoint:
    """What rows of their own for each ID would have cost: a hint for the next training.

    A removal would have taken nothing from anybody.

    Attributes:
        ids: trained with sinks.
        pool: rows in each layer.
        active: rows of an ID in each layer, as it was trained.
        own: rows that each could have owned in this pool.
        needed: rows in each layer for as many of its own as it had.
    """

    ids: int
    pool: int
    active: int
    own: int
    needed: int


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """All of them.

    Attributes:
        ways: figures of each.
        disjoint: where IDs share a pool; else None.
    """

    ways: tuple[Alternative, ...]
    disjoint: Disjoint | None

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """The inverse of :func:`dataclasses.asdict`, after JSON."""
        hint = content["disjoint"]
        ways = (Alternative(**{**way, "hindered": tuple(way["hindered"])}) for way in content["ways"])
        return cls(ways=tuple(ways), disjoint=None if hint is None else Disjoint(**hint))


def alternatives(
    subject: Subject, scope: Scope, chosen: Cut, shared_rows: Choice | None, residue: Iterable[Residue]
) -> Alternatives:
    """The ways to answer a request.

    Args:
        subject: the checkpoint and the corpus.
        scope: of the request, with its decisions.
        chosen: the cut as it is planned.
        shared_rows: that decision.
        residue: what else holds the text.
    """
    outside = scope.survivors
    every = replace(scope, ids=np.union1d(scope.ids, outside))
    removing = keeping = chosen
    if chosen.shared:
        other, _ = cut(subject, scope, "remove" if shared_rows == "keep" else "keep")
        removing, keeping = (other, chosen) if shared_rows == "keep" else (chosen, other)
    nothing, everything = Collateral.none(scope.survivors), Collateral(len(outside), outside, np.ones(len(outside)))
    there = sum(subject.files.table.rows_in(place) for place in range(len(chosen.removed)))
    stay, reversible = sum(chosen.chosen), ("nothing leaves the files",)

    def way(name: Way, lost: Collateral, rows: int, stay: int, survivors: int, hindered: Iterable[str]) -> Alternative:
        reasons = tuple(hindered)
        return Alternative(
            way=name,
            rows=rows,
            stay=stay,
            survivors=survivors,
            affected=lost.affected,
            sources=_sources(subject, lost.ids[lost.lost > 0]),
            mean=lost.mean,
            most=lost.most,
            complete=not reasons,
            hindered=reasons,
        )

    survivors = len(scope.survivors)
    ways = [
        way("everything", everything, there, 0, 0, _elsewhere(relatives(subject, every))),
        way("deny", nothing, 0, stay, survivors, reversible),
        way("attenuate", removing.collateral, 0, stay, survivors, reversible),
    ]
    if not scope.everything:
        hindered = (*_kept(scope), *_elsewhere(residue))
        stays = ("shared rows stay",) if chosen.shared else ()
        ways[:0] = [
            way("remove-shared", removing.collateral, sum(removing.removed), 0, survivors, hindered),
            way("keep-shared", nothing, sum(keeping.removed), chosen.shared, survivors, (*hindered, *stays)),
        ]
    return Alternatives(ways=tuple(ways), disjoint=_disjoint(subject, len(every.ids)))


def _kept(scope: Scope) -> Iterator[str]:
    """What stays whatever is done about rows; decisions that are not taken yet count as they can be taken."""
    for decision in scope.decisions:
        if decision.name != "shared-rows" and (decision.choice == "keep" or decision.remove is None):
            yield f"--{decision.name} keep"


def _elsewhere(residue: Iterable[Residue]) -> Iterator[str]:
    if any(item.action == "list" and item.holds == "weights" for item in residue):
        yield "other weights learned from it"


def _sources(subject: Subject, ids: np.ndarray) -> int:
    if not len(ids):
        return 0
    theirs = np.flatnonzero(subject.with_sinks & np.isin(subject.corpus.sequence_ids, ids))
    return len({subject.corpus.sources[i] for i in theirs.tolist()} - {None})


def _disjoint(subject: Subject, ids: int) -> Disjoint | None:
    table, active = subject.files.table, int(subject.files.config.active)
    if not table.segments or not ids:
        return None
    return Disjoint(ids=ids, pool=table.pool, active=active, own=table.pool // ids, needed=ids * active)
