"""Tests of two samples: by hand, against scipy, and how often a true null is rejected."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memsinks.audit.metrics import kolmogorov_smirnov, permutation_test
from memsinks.errors import InputError

VALUES = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=4)


def distance(first, second):
    return max(abs(np.mean(np.array(first) <= x) - np.mean(np.array(second) <= x)) for x in [*first, *second])


@settings(deadline=None)
@given(VALUES, VALUES)
def test_kolmogorov_smirnov_counts_the_orders_that_lead_as_far(first, second):
    found = kolmogorov_smirnov(first, second)
    assert found.distance == pytest.approx(distance(first, second))
    places = range(len(first) + len(second))
    orders = [(list(own), [i for i in places if i not in own]) for own in combinations(places, len(first))]
    assert found.p == pytest.approx(np.mean([distance(*order) >= found.distance - 1e-9 for order in orders]))


@pytest.mark.parametrize(("m", "n"), [(4, 229), (30, 30), (150, 300)])
def test_kolmogorov_smirnov_is_that_of_scipy(m, n):
    random = np.random.default_rng(m)
    first, second = random.normal(0.2, 1, m), random.normal(0, 1, n)
    found, peer = kolmogorov_smirnov(first, second), stats.ks_2samp(first, second, method="exact")
    assert (found.distance, found.p) == pytest.approx((peer.statistic, peer.pvalue))


def test_kolmogorov_smirnov_by_hand():
    # Of the six orders of two and two, only the two that keep the samples apart come so far.
    found = kolmogorov_smirnov([1, 2], [3, 4])
    assert (found.distance, found.p) == (1, pytest.approx(2 / 6))
    same = kolmogorov_smirnov([1, 2, 3], [1, 2, 3])
    assert (same.distance, same.p) == (0, 1)


def test_permutations_come_near_to_all_of_them():
    members, others = [3.0, 2.5, 0.1], [1.0, 2.0, 0.5, -1.0, 0.0]
    every = np.array([*members, *others])
    sums = np.array([every[list(chosen)].sum() for chosen in combinations(range(8), 3)])
    exact = (sums >= sum(members) - 1e-12).mean()
    assert permutation_test(members, others, permutations=20_000) == pytest.approx(exact, abs=0.015)


def test_no_difference_is_rejected_as_often_as_it_says():
    random = np.random.default_rng(1)
    p = [permutation_test(random.normal(size=4), random.normal(size=40), permutations=199) for _ in range(300)]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_permutation_p_is_never_zero_and_one_without_a_difference():
    assert permutation_test([1] * 10, [0] * 10, permutations=99) == 0.01
    assert permutation_test([1, 1], [1, 1], permutations=99) == 1


def test_permutations_are_those_of_the_seed():
    members, others = [0.5, 1.0], [0.0, 0.7, 0.9]
    same = [permutation_test(members, others, permutations=99, seed=3) for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize("test", [kolmogorov_smirnov, permutation_test])
def test_empty_samples_are_refused(test):
    for pair in (([], [1.0]), ([1.0], [])):
        with pytest.raises(InputError, match="at least one number"):
            test(*pair)
    with pytest.raises(InputError, match="permutations"):
        permutation_test([1.0], [1.0], permutations=0)
