"""AUC, ROC curves and rates at few false alarms: by hand, against scikit-learn, and how often intervals hold."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from memsinks.audit import wilson
from memsinks.audit.metrics import auc, auc_interval, roc_curve, tpr_at_fpr
from memsinks.errors import InputError

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


def labelled(members, others):
    return np.repeat([1, 0], [len(members), len(others)]), np.concatenate([members, others])


def test_auc_by_hand():
    # Pairs: 3 > 1, 3 > 2, 3 > 0; 1 = 1, 1 < 2, 1 > 0.
    assert auc([3, 1], [1, 2, 0]) == pytest.approx((3 + 0.5 + 0 + 1) / 6)
    assert auc([2], [1]) == 1
    assert auc([1], [2]) == 0
    assert auc([1, 1], [1, 1, 1]) == 0.5


@settings(deadline=None)
@given(SCORES, SCORES)
def test_auc_and_the_curve_are_those_of_scikit_learn(members, others):
    labels, scores = labelled(members, others)
    assert auc(members, others) == pytest.approx(peer.roc_auc_score(labels, scores))
    curve = roc_curve(members, others)
    fpr, tpr, _ = peer.roc_curve(labels, scores, drop_intermediate=False)
    # Each of its corners is a point of the peer's, and it encloses the same area.
    assert {(round(a, 9), round(b, 9)) for a, b in zip(curve.fpr, curve.tpr, strict=True)} <= {
        (round(a, 9), round(b, 9)) for a, b in zip(fpr, tpr, strict=True)
    }
    assert peer.auc(curve.fpr, curve.tpr) == pytest.approx(auc(members, others))
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_turned_round_scores_give_the_rest_to_one(members, others):
    interval, turned = auc_interval(members, others), auc_interval([-x for x in members], [-x for x in others])
    assert turned.estimate == pytest.approx(1 - interval.estimate)
    assert turned.bounds == pytest.approx((1 - interval.high, 1 - interval.low), abs=1e-9)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_the_interval_of_a_perfect_score_has_a_width():
    few, more = auc_interval([1] * 4, [0] * 200), auc_interval([1] * 40, [0] * 200)
    assert few.high == more.high == 1
    assert 0.7 < few.low < more.low < 1


def test_the_interval_ends_where_a_test_of_that_value_would_reject():
    # Without a difference the variance is that of Mann–Whitney's test: (m + n + 1) / (12 m n).
    m, n = 9, 31
    deviation = ((m + n + 1) / (12 * m * n)) ** 0.5
    random = np.random.default_rng(0)
    found = [auc_interval(random.normal(0.8, 1, m), random.normal(0, 1, n)) for _ in range(200)]
    z = NormalDist().inv_cdf(0.975)
    decided = [i.low > 0.5 for i in found]
    tested = [i.estimate - 0.5 > z * deviation for i in found]
    assert 20 < sum(tested) < 180
    # Where members vary more than the model says, the interval is wider than the test.
    assert all(test or not low for low, test in zip(decided, tested, strict=True))
    assert np.mean(np.array(decided) == np.array(tested)) > 0.9


@pytest.mark.parametrize(("members", "others"), [(4, 229), (12, 100), (60, 200)])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_hold_the_true_value(members, others, shift):
    truth, random = NormalDist().cdf(shift / 2**0.5), np.random.default_rng(members)
    found = [auc_interval(random.normal(shift, 1, members), random.normal(0, 1, others)) for _ in range(400)]
    # 95 % and three deviations; each side by itself too, since verdicts are one-sided.
    assert np.mean([i.low <= truth <= i.high for i in found]) > 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5
    assert max(np.mean([i.low > truth for i in found]), np.mean([i.high < truth for i in found])) < 0.05


def test_members_unlike_each_other_widen_the_interval():
    others = np.linspace(0, 1, 100)
    alike, apart = auc_interval(np.linspace(0.25, 0.75, 20), others), auc_interval([-1.0] * 10 + [2.0] * 10, others)
    assert alike.estimate == pytest.approx(apart.estimate)
    # Half of them are found and half are not, as with twenty throws of a coin.
    coin = wilson(10, 20)
    assert apart.high - apart.low == pytest.approx(coin.high - coin.low, rel=0.1)
    assert apart.high - apart.low > 1.3 * (alike.high - alike.low)


def test_rates_at_few_false_alarms():
    others = np.arange(200)
    assert tpr_at_fpr([150, 198, 198.5, 250], others, 0.01) == wilson(3, 4), "two of 200 may be above, 197 is the bar"
    assert tpr_at_fpr([197, 0], others, 0.01) == wilson(0, 2), "as high as the bar is not above it"
    assert tpr_at_fpr([1.0], np.zeros(100), 0.01) == wilson(1, 1)
    assert tpr_at_fpr([1.0], np.zeros(99), 0.01) is None, "1 % of 99 is less than one"
    assert tpr_at_fpr([1.0], np.zeros(229), 0.001) is None


@settings(deadline=None)
@given(SCORES, st.lists(st.integers(-5, 5), min_size=20, max_size=40))
def test_no_more_false_alarms_than_said(members, others):
    found = tpr_at_fpr(members, others, 0.1)
    assert found is not None
    alarms = tpr_at_fpr(others, others, 0.1)
    assert alarms is not None
    assert alarms.estimate <= 0.1
    fpr, tpr, _ = peer.roc_curve(*labelled(members, others), drop_intermediate=False)
    assert found.estimate == pytest.approx(tpr[fpr <= np.floor(0.1 * len(others)) / len(others) + 1e-9].max())


@pytest.mark.parametrize("measure", [auc, auc_interval, roc_curve, lambda a, b: tpr_at_fpr(a, b, 0.1)])
def test_bad_scores_are_refused(measure):
    for members, others in (([], [1.0]), ([1.0], []), ([float("nan")], [1.0]), ([[1.0]], [1.0])):
        with pytest.raises(InputError, match="scores of"):
            measure(members, others)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="level"):
        auc_interval([1], [0], level=1.0)
    with pytest.raises(InputError, match="false-positive rate"):
        tpr_at_fpr([1], [0], 0)
