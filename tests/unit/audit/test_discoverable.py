import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit.discoverable import chance_within, log10_draws_needed
from memsinks.errors import InputError


@pytest.mark.parametrize(
    ("once", "draws", "expected"), [(0.5, 1, 0.5), (0.5, 2, 0.75), (0.1, 3, 1 - 0.9**3), (1.0, 5, 1.0), (0.0, 99, 0.0)]
)
def test_chances_by_hand(once, draws, expected):
    log = math.log(once) if once else -math.inf
    assert chance_within(log, draws) == pytest.approx(expected)


def test_a_vanishing_chance_keeps_its_digits():
    assert chance_within(math.log(1e-30), 10) == pytest.approx(1e-29, rel=1e-9)
    assert chance_within(-800.0, 10) == 0


@pytest.mark.parametrize(("once", "expected"), [(0.5, 0.0), (0.9, 0.0), (1.0, 0.0), (1 - 0.5**0.01, 2.0)])
def test_draws_by_hand(once, expected):
    assert log10_draws_needed(math.log(once)) == pytest.approx(expected)


def test_what_cannot_be_drawn_needs_more_than_any_number():
    assert log10_draws_needed(-math.inf) == math.inf
    assert log10_draws_needed(-1000.0) == pytest.approx((math.log(math.log(2)) + 1000) / math.log(10))


@given(st.floats(-30, -0.01), st.floats(0.01, 0.99))
def test_so_many_draws_give_the_chance(log_chance, chance):
    draws = 10 ** float(log10_draws_needed(log_chance, chance))
    found = float(chance_within(log_chance, draws))
    assert found == pytest.approx(chance, rel=1e-6) if draws > 1 else found >= chance - 1e-9


def test_a_chance_that_rounding_put_above_1_counts_as_1():
    assert chance_within(1e-7, 3) == 1
    assert log10_draws_needed(1e-7) == 0


def test_arrays_keep_their_shape():
    np.testing.assert_allclose(chance_within(np.log([[0.5, 0.25]]), 2), [[0.75, 0.4375]])


def test_out_of_range():
    with pytest.raises(InputError, match="draws"):
        chance_within(-1.0, 0)
    for chance in (0.0, 1.0):
        with pytest.raises(InputError, match="chance"):
            log10_draws_needed(-1.0, chance)
