"""Exact expectations against enumeration of every choice, and against the selection that training uses."""

import itertools
import math
from statistics import fmean, pvariance

import numpy as np
import pytest

from memsinks.errors import ConfigError
from memsinks.ids import to_tensor
from memsinks.planning.overlap import (
    expected_overlap,
    fraction_lost,
    fraction_lost_by_units,
    others_on_a_row,
    smallest_pool,
    survivor_deviation,
)
from memsinks.sinks.selection import select


def every_loss(pool, active, removed):
    """The fraction that a survivor loses, for every way in which the removed IDs can choose."""
    sets = list(itertools.combinations(range(pool), active))
    # By symmetry the survivor's own choice does not matter.
    own = set(range(active))
    for choices in itertools.product(sets, repeat=removed):
        yield len(own & set().union(*choices)) / active


@pytest.mark.parametrize(
    ("pool", "active", "removed"),
    [(1, 1, 1), (4, 1, 3), (4, 2, 2), (5, 2, 3), (5, 3, 2), (6, 4, 2), (6, 6, 1), (7, 2, 0)],
)
def test_expectation_and_deviation_are_those_of_all_choices(pool, active, removed):
    losses = list(every_loss(pool, active, removed))
    assert fraction_lost(pool, active, removed) == pytest.approx(fmean(losses))
    assert survivor_deviation(pool, active, removed) == pytest.approx(math.sqrt(pvariance(losses)), abs=1e-12)
    assert survivor_deviation(pool, active, removed, 4) == pytest.approx(math.sqrt(pvariance(losses) / 4), abs=1e-12)


def test_two_ids_share_as_many_rows_as_one_takes_from_the_other():
    assert expected_overlap(50, 20) == pytest.approx(20 * fraction_lost(50, 20, 1)) == pytest.approx(8)


@pytest.mark.parametrize(("pool", "active", "others"), [(4, 1, 3), (5, 2, 3), (6, 6, 2), (7, 2, 0)])
def test_others_on_a_row_are_those_of_all_choices(pool, active, others):
    choices = itertools.product(itertools.combinations(range(pool), active), repeat=others)
    on_row_0 = [sum(0 in rows for rows in each) for each in choices]
    assert others_on_a_row(pool, active, others) == pytest.approx(fmean(on_row_0))


def test_the_published_ratio():
    """A ratio of 0.3: 97 % of the pool after 10 IDs, and next to nothing is left after 20."""
    assert fraction_lost(1000, 300, 1) == pytest.approx(0.3)
    assert fraction_lost(1000, 300, 10) == pytest.approx(0.9718, abs=5e-5)
    assert fraction_lost(1000, 300, 20) == pytest.approx(0.9992, abs=5e-5)


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize(("ratio", "removed"), [(0.3, 1), (0.3, 10), (0.05, 20)])
def test_the_selection_of_training_behaves_as_assumed(block, ratio, removed):
    pool, layers, groups = 240, 6, 200
    active = round(pool * ratio)
    ids = np.random.default_rng(removed).integers(0, 2**64, (removed + 1) * groups, dtype=np.uint64, endpoint=False)
    rows = select(to_tensor(ids), seed=5, layers=layers, pool=pool, active=active, block=block).numpy()
    chosen = np.zeros((layers, len(ids), pool), dtype=bool)
    np.put_along_axis(chosen, rows, True, axis=2)
    chosen = chosen.reshape(layers, groups, removed + 1, pool)
    lost = (chosen[:, :, 0] & chosen[:, :, 1:].any(axis=2)).sum(axis=2) / active
    single = lost.mean(axis=0)
    deviation = survivor_deviation(pool // block, active // block, removed, layers)
    assert single.mean() == pytest.approx(fraction_lost(pool, active, removed), abs=4 * deviation / math.sqrt(groups))
    # The sample's own deviation has a relative error of about 1 / sqrt(2 * groups).
    assert single.std(ddof=1) == pytest.approx(deviation, rel=4 / math.sqrt(2 * groups))


def brute_units(pool, active, ids, number):
    keep = 1 - active / pool
    kept = []
    for drawn in itertools.combinations(range(len(ids)), number):
        if sum(ids[u] for u in drawn) < sum(ids):
            kept.append(keep ** sum(ids[u] for u in drawn))
    return 1 - fmean(kept)


@pytest.mark.parametrize("ids", [[1, 1, 1, 1], [3, 1, 0, 2, 2], [0, 0, 5, 1], [7, 1]])
def test_units_are_averaged_over_every_draw_that_leaves_a_survivor(ids):
    most = len(ids) - 1
    curve = fraction_lost_by_units(20, 3, np.array(ids), most)
    assert curve == pytest.approx([brute_units(20, 3, ids, m) for m in range(most + 1)])


def test_survivors_of_no_unit_stay_when_all_units_leave():
    curve = fraction_lost_by_units(20, 3, np.array([2, 1]), 2, others=True)
    assert curve == pytest.approx([0, 1 - ((17 / 20) ** 2 + 17 / 20) / 2, 1 - (17 / 20) ** 3])


def test_nobody_loses_where_nobody_shares():
    assert fraction_lost_by_units(20, 3, np.zeros(5, dtype=int), 4).tolist() == [0, 0, 0, 0, 0]


def test_many_units_do_not_lose_precision():
    ids = np.array([1] * 2000 + [0] * 2000)
    # Hypergeometric: the IDs among 20 of 4,000 units that share.
    keep, total = 0.99, math.comb(4000, 20)
    expected = 1 - sum(math.comb(2000, h) * math.comb(2000, 20 - h) / total * keep**h for h in range(21))
    assert fraction_lost_by_units(100, 1, ids, 20)[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("block", [1, 4])
def test_the_smallest_pool_is_the_smallest(block):
    def lost(rows):
        return fraction_lost(rows, 8, 20)

    rows = smallest_pool(lost, 8, 0.05, block)
    assert rows % block == 0
    assert lost(rows) <= 0.05 < lost(rows - block)


def test_what_is_no_choice_is_refused():
    with pytest.raises(ConfigError, match="5 of 4 rows"):
        fraction_lost(4, 5, 1)
    with pytest.raises(ConfigError, match="0 or more"):
        fraction_lost(4, 2, -1)
    with pytest.raises(ConfigError, match="remove fewer"):
        fraction_lost_by_units(4, 2, np.ones(3, dtype=int), 3)
    with pytest.raises(ConfigError, match="own its rows"):
        smallest_pool(lambda rows: 1 / rows, 2, 0.0)
    with pytest.raises(ConfigError, match="allow more"):
        smallest_pool(lambda rows: 1.0, 2, 0.5)
