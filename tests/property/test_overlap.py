"""Losses of survivors, for any pool."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memsinks.planning.overlap import ROUNDING, fraction_lost, fraction_lost_by_units, smallest_pool, survivor_deviation


@st.composite
def pools(draw, largest=500):
    pool = draw(st.integers(1, largest))
    return pool, draw(st.integers(1, pool))


@settings(max_examples=200, deadline=None)
@given(pools(), st.integers(0, 60))
@example((8, 6), 27)
def test_more_removals_never_take_less_and_never_more_than_all(shape, removed):
    pool, active = shape
    one, more = fraction_lost(pool, active, removed), fraction_lost(pool, active, removed + 1)
    assert 0 <= one <= more <= 1
    assert more <= one + active / pool + 1e-12
    assert fraction_lost(pool + 1, active, removed) <= one
    # No variable in [0, 1] has a larger deviation than one that is 0 or 1. Squares, for a root magnifies rounding; and
    # what is kept, which does not round to 0.
    kept = (1 - active / pool) ** removed
    assert 0 <= survivor_deviation(pool, active, removed) ** 2 <= kept * (1 - kept) + 1e-14


@settings(max_examples=200, deadline=None)
@given(pools(), st.lists(st.integers(0, 30), min_size=1, max_size=12), st.booleans())
def test_losses_by_unit_grow_and_lie_between_those_of_the_smallest_and_largest(shape, ids, others):
    pool, active = shape
    most = len(ids) if others else len(ids) - 1
    curve = fraction_lost_by_units(pool, active, np.array(ids), most, others=others)
    assert curve[0] == 0
    assert (np.diff(curve) >= -1e-9).all()
    ordered = sorted(ids)
    for number in range(most + 1):
        low, high = sum(ordered[:number]), sum(ordered[::-1][:number])
        assert fraction_lost(pool, active, low) - 1e-9 <= curve[number] <= fraction_lost(pool, active, high) + 1e-9


@settings(max_examples=100, deadline=None)
@given(pools(60), st.integers(1, 30), st.floats(0.01, 0.9), st.integers(1, 4))
def test_the_smallest_pool_keeps_the_limit_and_one_block_less_does_not(shape, removed, limit, block):
    active = shape[1] * block

    def lost(rows):
        return fraction_lost(rows, active, removed)

    rows = smallest_pool(lost, active, limit, block)
    assert lost(rows) <= limit + ROUNDING
    assert rows == active or lost(rows - block) > limit + ROUNDING
