"""Measures of benchmarks of unlearning, by hand."""

import numpy as np
import pytest
from scipy import stats

from memsinks.audit.metrics import forget_quality, model_utility, privacy_leakage, truth_ratio
from memsinks.errors import InputError


def test_truth_ratio_by_hand():
    assert truth_ratio([0.5], [0.25, 0.75]) == pytest.approx(1.0)
    assert truth_ratio([0.8, 0.4], [0.15]) == pytest.approx(0.25)
    assert truth_ratio([0.5], [0.0]) == 0


def test_forget_quality_is_the_p_value_of_a_test():
    random = np.random.default_rng(0)
    forgotten, retrained = random.normal(size=30), random.normal(0.5, 1, 30)
    assert forget_quality(forgotten, retrained) == pytest.approx(stats.ks_2samp(forgotten, retrained).pvalue)
    assert forget_quality([1, 2, 3], [1, 2, 3]) == 1


def test_privacy_leakage_has_the_sign_of_muse():
    assert privacy_leakage(0.5, 0.5) == 0
    assert privacy_leakage(1.0, 0.5) == -1, "still told from other text: -100 %"
    assert privacy_leakage(0.0, 0.5) == 1, "harder than what was never seen"
    assert privacy_leakage(0.55, 0.52) == pytest.approx(((1 - 0.55) - (1 - 0.52)) / (1 - 0.52))


def test_model_utility_is_a_harmonic_mean():
    assert model_utility([1.0, 0.5]) == pytest.approx(2 / 3)
    assert model_utility([0.9, 0.0]) == 0
    assert model_utility([0.4]) == pytest.approx(0.4)


def test_what_is_out_of_range_is_refused():
    for call in (
        lambda: truth_ratio([], [0.1]),
        lambda: truth_ratio([0.1], []),
        lambda: truth_ratio([1.1], [0.1]),
        lambda: truth_ratio([0.0], [0.1]),
        lambda: forget_quality([], [1.0]),
        lambda: privacy_leakage(1.1, 0.5),
        lambda: privacy_leakage(0.5, 1.0),
        lambda: model_utility([]),
        lambda: model_utility([-0.1]),
    ):
        with pytest.raises(InputError):
            call()
