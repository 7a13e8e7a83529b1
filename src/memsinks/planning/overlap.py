"""How much the choices of sequence IDs overlap: exact expectations, without any corpus or model.

With hashed allocation an ID chooses ``k`` of ``n`` rows in each layer. Everything here assumes that choices are uniform
over all sets of ``k`` rows and independent between IDs and, with a mask for each layer, between layers; the keyed hash
is built to be indistinguishable from that. With blocks, ``n`` and ``k`` count blocks. Derivations are in
``docs/plan.md``.

Shape legend: ``U`` units that can be removed (IDs or sources), ``M + 1`` numbers of removed units from 0 on.
"""

import math
from collections.abc import Callable

import numpy as np

from memsinks.errors import ConfigError

ROUNDING = 1e-12
"""By which a loss may exceed a limit and still keep to it: 2 of 40 rows are not more than 5 %."""


def expected_overlap(pool: int, active: int) -> float:
    """Rows of a layer that two IDs both choose, on average: ``k * k / n``."""
    _check(pool, active)
    return active * active / pool


def others_on_a_row(pool: int, active: int, others: int) -> float:
    """How many of ``others`` IDs choose a given row, on average: ``others * k / n``.

    Raises:
        ConfigError: as :func:`fraction_lost`.
    """
    _check(pool, active, others)
    return others * active / pool


def fraction_lost(pool: int, active: int, removed: int) -> float:
    """Expected fraction of a survivor's rows that ``removed`` IDs take with them: ``1 - (1 - k / n) ** removed``.

    Each row of the survivor stays if none of the others chose it. It is also the share of the pool that they cover.

    Raises:
        ConfigError: ``active`` is not in ``[1, pool]``, or ``removed`` is negative.
    """
    _check(pool, active, removed)
    return 1.0 - _kept(pool, active, removed)


def survivor_deviation(pool: int, active: int, removed: int, layers: int = 1) -> float:
    """Standard deviation of the fraction that one survivor loses, over choices of all IDs.

    Of a survivor's rows each stays with chance p, and two with chance p2; given how many rows the removed IDs cover,
    the number lost is hypergeometric.

    Args:
        pool: rows in a layer.
        active: rows of an ID in a layer.
        removed: IDs that leave.
        layers: that choose independently of each other.
    """
    kept, both = _kept(pool, active, removed), _both_kept(pool, active, removed)
    variance = (active * kept * (1 - kept) + active * (active - 1) * (both - kept * kept)) / active**2
    return math.sqrt(max(variance, 0.0) / layers)


def fraction_lost_by_units(pool: int, active: int, ids: np.ndarray, most: int, *, others: bool = False) -> np.ndarray:
    """Expected fraction that a survivor loses when 0 to ``most`` of several units leave, drawn uniformly.

    A unit, such as a source, takes all its IDs with it. The average is over draws after which somebody who shares rows
    is left.

    Args:
        pool: rows in a layer that IDs share.
        active: rows of an ID in a layer.
        ids: ``int64 [U]``, IDs of each unit that share rows; 0 for one whose IDs own theirs. If IDs are in two units,
            the result is an upper bound.
        most: units that leave at most, below ``U`` unless there are ``others``.
        others: there are IDs of no unit that share rows; they never leave.

    Returns:
        ``float64 [M + 1]``; zeros if no unit shares rows.

    Raises:
        ConfigError: a number is out of range.
    """
    _check(pool, active)
    ids = np.asarray(ids, dtype=np.int64)
    units = len(ids)
    if not 0 <= most <= units or (most == units and most and not others) or (ids < 0).any():
        raise ConfigError(f"cannot remove {most} of {units} units and leave a survivor; remove fewer")
    sharing = int((ids > 0).sum())
    removed = np.arange(most + 1)
    if not sharing:
        return np.zeros(most + 1)
    keep = 1 - active / pool
    if len(np.unique(ids)) == 1:
        return 1 - keep ** (removed * float(ids[0]))
    kept = _mean_of_products(keep ** ids.astype(np.float64), most)
    if not others:
        # Draws that take everybody who shares leave no survivor to speak of.
        all_gone = np.array([_all_drawn(units, sharing, m) for m in range(most + 1)])
        kept = (kept - all_gone * keep ** float(ids.sum())) / (1 - all_gone)
    return np.clip(1 - kept, 0.0, 1.0)


def smallest_pool(lost: Callable[[int], float], active: int, limit: float, block: int = 1) -> int:
    """The smallest pool, in rows, in which a loss is at most ``limit``.

    Args:
        lost: the loss in a pool of so many rows; it falls as the pool grows.
        active: rows of an ID, the smallest pool there is.
        limit: above 0.
        block: the pool is a multiple of it.

    Raises:
        ConfigError: ``limit`` is not above 0, which no shared pool reaches, or there is none below 2**40 rows.
    """
    if not limit > 0:
        raise ConfigError(f"no shared pool keeps a loss to {limit}; let each ID own its rows")
    high = -(-active // block)
    while lost(high * block) > limit + ROUNDING:
        if high * block > 2**40:
            raise ConfigError(f"no pool of a size that can be trained keeps the loss to {limit}; allow more")
        high *= 2
    low = -(-active // block)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if lost(middle * block) <= limit + ROUNDING else (middle + 1, high)
    return high * block


def _check(pool: int, active: int, removed: int = 0) -> None:
    if not 1 <= active <= pool:
        raise ConfigError(f"an ID cannot choose {active} of {pool} rows; active must be between 1 and the pool")
    if removed < 0:
        raise ConfigError(f"cannot remove {removed} IDs; give 0 or more")


def _kept(pool: int, active: int, removed: int) -> float:
    """The chance that no removed ID chose a given row."""
    _check(pool, active, removed)
    return (1 - active / pool) ** removed


def _both_kept(pool: int, active: int, removed: int) -> float:
    """The chance that no removed ID chose either of two given rows."""
    if pool == 1:
        return _kept(pool, active, removed)
    return ((pool - active) * (pool - active - 1) / (pool * (pool - 1))) ** removed


def _mean_of_products(weights: np.ndarray, most: int) -> np.ndarray:
    """For each m up to ``most``: the mean, over all sets of m weights, of their product; ``float64 [M + 1]``.

    Elementary symmetric polynomials divided by their numbers of terms, which keeps every step a weighted mean.
    """
    means = np.zeros(most + 1)
    means[0] = 1.0
    numbers = np.arange(1, most + 1)
    for count, weight in enumerate(weights.tolist(), start=1):
        chance = np.minimum(numbers / count, 1.0)
        means[1:] = (1 - chance) * means[1:] + chance * weight * means[:-1]
    return means


def _all_drawn(units: int, marked: int, drawn: int) -> float:
    """The chance that ``drawn`` of ``units`` contain all ``marked`` ones."""
    if drawn < marked:
        return 0.0
    return math.comb(units - marked, drawn - marked) / math.comb(units, drawn)
