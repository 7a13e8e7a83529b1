import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from memsinks.audit import TokenizedDocument
from memsinks.audit.controls import Contrast, control_sets
from memsinks.audit.statistics import student_quantile
from memsinks.errors import InputError


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 8, 30, 101])
@pytest.mark.parametrize("probability", [0.5, 0.75, 0.975, 0.9995])
def test_students_quantile_is_that_of_scipy(probability, freedom):
    assert student_quantile(probability, freedom) == pytest.approx(student.ppf(probability, freedom), abs=1e-8)


@pytest.mark.parametrize(("probability", "freedom"), [(0.4, 3), (1.0, 3), (0.9, 0)])
def test_a_quantile_outside_its_range_is_refused(probability, freedom):
    with pytest.raises(InputError, match="Student's t"):
        student_quantile(probability, freedom)


def test_a_contrast_by_hand():
    contrast = Contrast(5.0, (1.0, 2.0, 3.0))
    assert (contrast.centre, contrast.spread, contrast.above) == (2.0, 1.0, 3)
    assert contrast.z == pytest.approx(3 / math.sqrt(4 / 3))
    interval = contrast.interval()
    assert interval.estimate == 3.0
    assert interval.high - 3.0 == pytest.approx(4.302653 * math.sqrt(4 / 3), rel=1e-6)


def test_equal_controls_leave_no_room_for_another_value():
    assert Contrast(1.0, (1.0, 1.0)).z == 0
    assert Contrast(2.0, (1.0, 1.0)).z == math.inf
    assert Contrast(0.0, (1.0, 1.0)).z == -math.inf


def test_one_control_has_no_spread():
    with pytest.raises(InputError, match="at least 2"):
        Contrast(1.0, (1.0,))


def test_the_interval_holds_zero_for_one_more_control_set_as_often_as_it_says():
    random = np.random.default_rng(0)
    draws = random.normal(size=(4000, 6))
    held = 0
    for row in draws:
        interval = Contrast(row[0], tuple(row[1:])).interval()
        held += interval.low <= 0 <= interval.high
    assert held / len(draws) == pytest.approx(0.95, abs=0.011)  # three standard errors


@given(st.integers(0, 40), st.integers(1, 8), st.integers(1, 8), st.integers(0, 3))
def test_control_sets_are_disjoint_and_of_one_size(count, size, most, seed):
    documents = [TokenizedDocument(str(i), np.arange(3), i) for i in range(count)]
    sets = control_sets(documents, size, most, seed=seed)
    names = [d.name for chosen in sets for d in chosen]
    assert len(set(names)) == len(names)
    assert {len(chosen) for chosen in sets} <= {size}
    assert len(sets) == min(most, count // size)
    assert names == [d.name for chosen in control_sets(documents, size, most, seed=seed) for d in chosen]
