import json

import numpy as np
import pytest
import scipy.stats

from memsinks.audit import (
    DocumentLosses,
    Interval,
    bootstrap,
    bootstrap_difference,
    forgetting,
    statistics,
    wilson,
)
from memsinks.errors import InputError


def sample(prefix, count, level, seed) -> DocumentLosses:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 200, size=count)
    return DocumentLosses(tuple(f"{prefix}{i}" for i in range(count)), tokens * rng.normal(level, 0.5, count), tokens)


def shifted(original: DocumentLosses, by: float) -> DocumentLosses:
    return DocumentLosses(original.names, original.loss_sum + by * original.tokens, original.tokens)


def identity(mean):
    return mean


def test_agrees_with_scipy_on_a_token_weighted_mean():
    losses = sample("d", 60, 3.0, 1)
    ours = bootstrap(identity, losses, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (losses.loss_sum, losses.tokens),
        lambda s, t, axis: s.sum(axis=axis) / t.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert ours.estimate == losses.mean
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_paired_samples_are_drawn_together():
    first = sample("d", 50, 3.0, 1)
    second = shifted(first, 0.25)
    together = bootstrap(lambda a, b: a - b, second, first, groups=["R", "R"])
    assert together.low == pytest.approx(0.25)
    assert together.high == pytest.approx(0.25)
    apart = bootstrap(lambda a, b: a - b, second, first, groups=["R", "V"])
    assert apart.high - apart.low > 0.1


def test_independent_groups_agree_with_scipy():
    one, other = sample("r", 40, 3.0, 1), sample("v", 70, 4.0, 2)
    ours = bootstrap(forgetting, one, other, groups=["R", "V"], resamples=20_000, level=0.9)
    theirs = scipy.stats.bootstrap(
        (one.loss_sum / one.tokens.mean(), other.loss_sum / other.tokens.mean()),
        lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis),
        vectorized=True,
        method="percentile",
        confidence_level=0.9,
        n_resamples=2_000,
        rng=np.random.default_rng(7),
    ).confidence_interval
    # scipy cannot weight by tokens here, so its interval is wider; the centres agree.
    assert (ours.low + ours.high) / 2 == pytest.approx((theirs.low + theirs.high) / 2, rel=0.02)
    assert ours.level == 0.9


def test_two_documents_by_hand():
    losses = DocumentLosses(("a", "b"), np.array([1.0, 3.0]), np.array([1, 1]))
    # The mean is 1, 2 or 3 with chances 1/4, 1/2, 1/4.
    assert bootstrap(identity, losses, level=0.95).bounds == (1.0, 3.0)
    assert bootstrap(identity, losses, level=0.4).bounds == (2.0, 2.0)


def test_same_seed_same_interval_in_any_block_size(monkeypatch):
    losses = sample("d", 30, 3.0, 1)
    first = bootstrap(identity, losses, seed=3)
    assert bootstrap(identity, losses, seed=3) == first
    assert bootstrap(identity, losses, seed=4) != first
    monkeypatch.setattr(statistics, "BLOCK", 100)
    assert bootstrap(identity, losses, seed=3) == first


def test_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        losses = sample("d", 80, 3.0, seed)
        interval = bootstrap(identity, losses, resamples=400, seed=seed)
        hits += interval.low <= 3.0 <= interval.high
    assert 180 <= hits <= 200


def test_refuses():
    one, other = sample("r", 10, 3.0, 1), sample("v", 10, 3.0, 2)
    with pytest.raises(InputError, match="at least one"):
        bootstrap(identity)
    with pytest.raises(InputError, match="needs groups"):
        bootstrap(forgetting, one, other)
    with pytest.raises(InputError, match="1 labels for 2"):
        bootstrap(forgetting, one, other, groups=["R"])
    with pytest.raises(InputError, match="same documents"):
        bootstrap(forgetting, one, other, groups=["R", "R"])
    with pytest.raises(InputError, match="at least 2"):
        bootstrap(identity, sample("r", 1, 3.0, 1))
    for bad in ({"level": 0.0}, {"level": 1.0}, {"resamples": 0}):
        with pytest.raises(InputError, match="level"):
            bootstrap(identity, one, **bad)


def test_a_difference_of_means_agrees_with_scipy(monkeypatch):
    monkeypatch.setattr(statistics, "BLOCK", 1000)  # several parts
    rng = np.random.default_rng(3)
    one, other = rng.beta(1, 3, 40), rng.beta(1, 5, 70)
    ours = bootstrap_difference(one, other, resamples=20_000, level=0.9)
    theirs = scipy.stats.bootstrap(
        (one, other),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        confidence_level=0.9,
        rng=np.random.default_rng(7),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.estimate == one.mean() - other.mean()
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_a_difference_of_few_values_is_that_of_their_draws():
    # Two values give means 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4; one gives itself.
    found = bootstrap_difference(np.array([0.0, 1.0]), np.array([0.25]))
    assert (found.estimate, found.low, found.high) == (0.25, -0.25, 0.75)
    assert bootstrap_difference(np.array([0.5]), np.array([0.25])).bounds == (0.25, 0.25)
    assert bootstrap_difference(np.array([0.0, 1.0]), np.array([0.25]), level=0.4).bounds == (0.25, 0.25)
    with pytest.raises(InputError, match="no interval"):
        bootstrap_difference(np.array([]), np.array([1.0]))


@pytest.mark.parametrize("trials", [1, 20, 173])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_is_scipys(trials, level):
    for successes in {0, 1, trials // 2, trials}:
        ours = wilson(successes, trials, level)
        theirs = scipy.stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
        assert ours.bounds == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        assert ours.estimate == successes / trials
    assert wilson(0, trials).low == 0
    assert wilson(trials, trials).high == 1


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 3), (4, 3), (1, 3, 1.0)])
def test_wilson_refuses(arguments):
    with pytest.raises(InputError, match="no interval"):
        wilson(*arguments)


def test_interval():
    interval = Interval(0.5, 0.4, 0.7, 0.95)
    assert interval.bounds == (0.4, 0.7)
    assert json.loads(json.dumps(interval.to_json())) == {"estimate": 0.5, "low": 0.4, "high": 0.7, "level": 0.95}
