"""What survivors lose when units are drawn and removed, by the selection that training uses on the corpus's own IDs.

Shape legend: ``L`` layers with sinks, ``N`` governed IDs, ``U`` units, ``K`` active rows, ``S`` survivors looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from memsinks.ids import to_tensor
from memsinks.planning.governed import Units
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.config import SinkConfig

SURVIVORS, LEAST_SURVIVORS = 512, 64
"""Most IDs whose losses are followed, a random choice of all; and how few they become where :data:`LOOKS` binds."""
WORK = 2**26
"""Rows that may be selected for removals; where more are needed, there are fewer draws."""
LOOKS = 2**28
"""Rows of survivors that may be looked at."""
LEAST_DRAWS = 20
CHUNK = 64
"""IDs whose rows are selected at a time."""
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Selector:
    """Which rows each governed ID selects.

    Attributes:
        ids: ``uint64 [N]``.
        config: of the pool, with counts.
        layers: decoder layers of the model.
        owners: ``int64 [*]``, places of the IDs that own rows.
    """

    ids: np.ndarray
    config: SinkConfig
    layers: int
    owners: np.ndarray

    @property
    def table(self) -> AllocationTable:
        """The allocation that training would start with.

        Raises:
            ConfigError: the owned rows do not suffice.
        """
        table = AllocationTable.initial(self.config)
        return table.with_owners(self.ids[self.owners], int(self.config.active)) if len(self.owners) else table

    @property
    def sharing(self) -> np.ndarray:
        """Which IDs choose from shared rows: ``bool [N]``."""
        which = np.ones(len(self.ids), dtype=bool)
        which[self.owners] = False
        return which

    def rows(self, table: AllocationTable, places: np.ndarray) -> np.ndarray:
        """Rows of the IDs at ``places``: ``int64 [L, n, K]``."""
        return table.rows(to_tensor(self.ids[places]), self.config, self.layers).numpy()


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Fractions of their sinks that survivors who share rows lost, over draws of the units that leave.

    Attributes:
        removed: units that left.
        draws: how often they were drawn.
        mean: over draws, of the mean over survivors.
        low, high: 95 % interval of the mean, over the choice of units; the hash stays as it is.
        least, most: between which 95 % of single survivors lie.
        worst: the most that one survivor lost.
    """

    removed: int
    draws: int
    mean: float
    low: float
    high: float
    least: float
    most: float
    worst: float


def lost_fractions(selector: Selector, removed: np.ndarray, survivors: np.ndarray) -> np.ndarray:
    """The fraction of its rows, over all layers, that each survivor loses: ``float64 [S]``.

    Args:
        selector: of the pool.
        removed: ``int64 [*]``, places of the IDs that leave.
        survivors: ``int64 [S]``, places of IDs that stay.
    """
    table = selector.table
    covered = _nothing_covered(selector)
    _cover(selector, table, removed, covered)
    return _lost(covered, selector.rows(table, survivors))


def simulate(selector: Selector, units: Units, numbers: Sequence[int], *, draws: int, seed: int) -> list[Simulated]:
    """Remove random units and look at the survivors that share rows.

    Args:
        selector: of the pool.
        units: what can be removed.
        numbers: of units that leave; in each draw, fewer are the first of more.
        draws: how often.
        seed: of the draws, and of the choice of survivors where not all are followed.

    Returns:
        One entry a number after which somebody is left in some draw; none if nobody shares rows.
    """
    sharing = selector.sharing
    rng = np.random.default_rng(seed)
    order = sorted(set(numbers))
    most = order[-1] if order else 0
    draws = _affordable(selector, units, most, draws)
    candidates = np.flatnonzero(sharing)
    each = draws * len(order) * int(selector.config.active) * len(selector.config.layer_numbers(selector.layers))
    followed = min(SURVIVORS, max(LEAST_SURVIVORS, LOOKS // max(1, each)))
    if len(candidates) > followed:
        candidates = np.sort(rng.choice(candidates, followed, replace=False))
    drawn = np.stack([rng.choice(len(units), most, replace=False) for _ in range(draws)])
    losses: list[list[np.ndarray]] = [[] for _ in order]
    if not len(candidates):
        return []
    table = selector.table
    rows = selector.rows(table, candidates)
    for draw in range(draws):
        covered = _nothing_covered(selector)
        gone = np.zeros(len(sharing), dtype=bool)
        before = 0
        for column, number in enumerate(order):
            new = [units.ids_of(unit) for unit in drawn[draw, before:number]]
            leaving = np.concatenate([np.empty(0, dtype=np.int64), *new])
            leaving = np.unique(leaving[sharing[leaving] & ~gone[leaving]])
            _cover(selector, table, leaving, covered)
            gone[leaving] = True
            before = number
            staying = ~gone[candidates]
            if staying.any():
                losses[column].append(_lost(covered, rows[:, staying]))
    by_number = dict(zip(order, losses, strict=True))
    return [_summary(number, by_number[number]) for number in numbers if by_number[number]]


def _nothing_covered(selector: Selector) -> np.ndarray:
    """``bool [L, pool]``."""
    config = selector.config
    return np.zeros((len(config.layer_numbers(selector.layers)), int(config.pool)), dtype=bool)


def _cover(selector: Selector, table: AllocationTable, places: np.ndarray, covered: np.ndarray) -> None:
    """Mark the rows of the IDs at ``places``."""
    layer = np.arange(len(covered))[:, None, None]
    for start in range(0, len(places), CHUNK):
        # More IDs cannot cover more than everything, and a large source covers it early.
        if covered.all():
            return
        covered[layer, selector.rows(table, places[start : start + CHUNK])] = True


def _lost(covered: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Means over layers and rows ``[L, S, K]``: ``float64 [S]``."""
    return covered[np.arange(len(covered))[:, None, None], rows].mean(axis=(0, 2))


def _affordable(selector: Selector, units: Units, most: int, draws: int) -> int:
    """How many draws :data:`WORK` allows."""
    each = len(units.members) / len(units) * most * int(selector.config.active)
    # After about ln(pool) times as many choices as rows, all rows are covered.
    pool = int(selector.config.pool)
    each = max(1.0, min(each, pool * (1 + np.log(pool)))) * len(selector.config.layer_numbers(selector.layers))
    return max(min(draws, LEAST_DRAWS), min(draws, int(WORK / each)))


def _summary(number: int, losses: list[np.ndarray]) -> Simulated:
    means = np.array([loss.mean() for loss in losses])
    pooled = np.concatenate(losses)
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(error)
    least, most = np.quantile(pooled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = float(means.mean())
    return Simulated(
        removed=number,
        draws=len(losses),
        mean=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        least=float(least),
        most=float(most),
        worst=float(pooled.max()),
    )
