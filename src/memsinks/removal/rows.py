"""Which rows a removal takes, and what surviving IDs lose with them."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from memsinks.ids import to_tensor
from memsinks.removal.policy import Choice
from memsinks.removal.scope import Decision, Scope
from memsinks.removal.subject import Subject
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.removal import chosen_rows, without, without_any

BUDGET = 50_000_000
"""Rows of survivors that are looked up at most; beyond that a sample of the survivors stands for all."""


@dataclass(frozen=True, eq=False)
class Collateral:
    """What surviving IDs lose of their rows, over all layers.

    Attributes:
        survivors: IDs that stay.
        ids: ``uint64``, those that were looked at: all, or a sample.
        lost: ``float64``, fraction of its present rows that each loses.
    """

    survivors: int
    ids: np.ndarray
    lost: np.ndarray

    @property
    def mean(self) -> float:
        """Of all survivors, or of the sample."""
        return float(self.lost.mean()) if len(self.lost) else 0.0

    @property
    def most(self) -> float:
        """Of any survivor looked at."""
        return float(self.lost.max()) if len(self.lost) else 0.0


@dataclass(frozen=True, eq=False)
class Cut:
    """A removal as the tensors will see it.

    Attributes:
        table: after it.
        removed: rows that go, for each layer with sinks.
        chosen: rows of the removed IDs, for each layer.
        collateral: what others lose.
    """

    table: AllocationTable
    removed: tuple[int, ...]
    chosen: tuple[int, ...]
    collateral: Collateral


def cut(subject: Subject, scope: Scope, shared_rows: Choice | None) -> tuple[Cut, Scope]:
    """The rows that go; the scope comes back with the decision about shared rows, if there are any.

    Without a decision the cut is that of removing them.
    """
    files, layers = subject.files, subject.layers
    places = len(files.layers())
    config, table = files.config, files.table
    before = [table.rows_in(place) for place in range(places)]
    if scope.everything:
        ids = to_tensor(scope.ids)
        after = without_any(without(table, ids, config, layers), config, layers)
        lost = Collateral(0, scope.ids[:0], np.zeros(0))
        return Cut(after, tuple(before), tuple(before), lost), scope
    ids, survivors = to_tensor(scope.ids), to_tensor(scope.survivors)
    own = chosen_rows(table, ids, config, layers)
    present = [_present(table, place, table.pool) for place in range(places)]
    chosen = tuple(int((mine & there).sum()) for mine, there in zip(own, present, strict=True))
    staying = chosen_rows(table, survivors, config, layers) if table.segments else []
    shared = sum(int((mine & theirs & p).sum()) for mine, theirs, p in zip(own, staying, present, strict=False))
    if shared:
        scope = replace(scope, decisions=(*scope.decisions, _decision(shared, sum(chosen), shared_rows)))
    keep = bool(shared) and shared_rows == "keep"
    after = without(table, ids, config, layers, survivors=survivors if keep else None)
    removed = tuple(b - after.rows_in(place) for place, b in enumerate(before))
    return Cut(after, removed, chosen, _collateral(subject, scope.survivors, after, touched=bool(shared))), scope


def _decision(shared: int, chosen: int, choice: Choice | None) -> Decision:
    return Decision(
        name="shared-rows",
        what=f"of {chosen:,} rows of the request, over all layers, are shared with surviving IDs",
        number=shared,
        examples=(),
        remove="they go, and surviving IDs go on without them",
        keep="they stay, and what the request left in them stays too",
        choice=choice,
    )


def _collateral(subject: Subject, survivors: np.ndarray, after: AllocationTable, *, touched: bool) -> Collateral:
    """``touched``: survivors share rows with what goes; else none of them loses any."""
    if not touched:
        return Collateral(len(survivors), survivors, np.zeros(len(survivors)))
    files = subject.files
    places, active = len(files.layers()), int(files.config.active)
    most = max(1, BUDGET // (places * active))
    ids = survivors
    if len(ids) > most:
        ids = np.sort(np.random.default_rng(files.config.seed).choice(ids, most, replace=False))
    lost = np.zeros(len(ids))
    step = max(1, (1 << 22) // (places * active))
    gone = [~_present(after, place, after.pool) for place in range(places)]
    there = [_present(files.table, place, after.pool) for place in range(places)]
    for start in range(0, len(ids), step):
        rows = files.table.rows(to_tensor(ids[start : start + step]), files.config, subject.layers)
        left = sum(own[r].sum(-1).double() for own, r in zip(there, rows, strict=True))
        goes = sum((own & out)[r].sum(-1).double() for own, out, r in zip(there, gone, rows, strict=True))
        assert isinstance(left, torch.Tensor)
        assert isinstance(goes, torch.Tensor)
        lost[start : start + step] = (goes / left.clamp(min=1)).numpy()
    return Collateral(len(survivors), ids, lost)


def _present(table: AllocationTable, place: int, pool: int) -> torch.Tensor:
    """``bool [pool]``: virtual rows of a layer that are there."""
    marked = torch.ones(pool, dtype=torch.bool)
    return marked if table.removed is None else table.removed.find(place, torch.arange(pool))[1]
