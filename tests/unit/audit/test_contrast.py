"""Advantages of a model over another, here and elsewhere."""

import numpy as np
import pytest
from scipy import stats

from memsinks.audit import DocumentLosses, bootstrap
from memsinks.audit.contrast import advantage_difference, token_mean
from memsinks.errors import InputError


def losses(sums, tokens=None, start=0):
    sums = np.asarray(sums, dtype=float)
    tokens = np.full(len(sums), 1) if tokens is None else np.asarray(tokens)
    return DocumentLosses(tuple(str(start + i) for i in range(len(sums))), sums, tokens)


def drawn(random, count, gain, noise=0.3):
    """Losses of documents in a baseline, and in a model that gains so much on each token."""
    tokens = random.integers(50, 200, count)
    base = random.normal(3, 0.5, count) * tokens
    return losses(base - random.normal(gain, noise, count) * tokens, tokens), losses(base, tokens)


def test_by_hand():
    # Here 3 - 1 and 5 - 2 are gained, on average 2.5; elsewhere 1 and 1: the difference is 1.5.
    found = advantage_difference(losses([1, 2]), losses([3, 5]), losses([1, 1]), losses([2, 2]))
    assert found.estimate == 1.5
    # The variance of the mean of 2 and 3 is 0.5 / 2; of elsewhere 0: one degree of freedom.
    assert found.high - 1.5 == pytest.approx(0.5 * stats.t.ppf(0.975, 1))


def test_a_long_document_weighs_more():
    found = advantage_difference(losses([10, 30], [10, 30]), losses([20, 30], [10, 30]), losses([1, 1]), losses([1, 1]))
    assert found.estimate == pytest.approx(10 / 40)


def test_over_many_documents_it_is_the_paired_bootstrap():
    random = np.random.default_rng(0)
    samples = [*drawn(random, 200, 0.2), *drawn(random, 150, 0.1)]
    found = advantage_difference(*samples)
    other = bootstrap(lambda m, b, n, c: (b - m) - (c - n), *samples, groups=["here", "here", "there", "there"])
    assert found.estimate == pytest.approx(other.estimate)
    assert found.bounds == pytest.approx(other.bounds, abs=0.1 * (other.high - other.low))


@pytest.mark.parametrize("count", [4, 12])
def test_the_interval_holds_what_it_should_also_over_few_documents(count):
    random, held, times = np.random.default_rng(1), 0, 1500
    for _ in range(times):
        low, high = advantage_difference(*drawn(random, count, 0.2), *drawn(random, 40, 0.2)).bounds
        held += low <= 0 <= high
    assert 0.93 < held / times < 0.985


def test_a_mean_with_its_interval():
    found = token_mean(losses([2, 4, 9], [1, 2, 3]))
    assert found.estimate == 15 / 6
    residuals = (np.array([2, 4, 9]) - 2.5 * np.array([1, 2, 3])) / 2
    half = stats.t.ppf(0.975, 2) * np.sqrt(residuals.var(ddof=1) / 3)
    assert found.bounds == pytest.approx((2.5 - half, 2.5 + half))


def test_what_does_not_belong_together():
    one, two = losses([1, 2]), losses([1, 2], start=5)
    with pytest.raises(InputError, match="other names or lengths"):
        advantage_difference(one, two, one, one)
    with pytest.raises(InputError, match="at least 2"):
        advantage_difference(losses([1]), losses([1]), one, one)
