"""Can texts be told apart without a model? It has to be seen where they differ, and not where they do not."""

import numpy as np
import pytest
from sklearn.naive_bayes import MultinomialNB

from memsinks.audit.membership import blind
from memsinks.audit.membership.blind import _SMOOTHING
from memsinks.errors import InputError

WORDS = 300
FREQUENT = 1 / np.arange(1, WORDS + 1)


def texts(count, random, weights=FREQUENT):
    """Each has a subject of its own, which makes some words more frequent."""
    found = []
    for _ in range(count):
        own = weights * np.exp(random.normal(0, 0.7, WORDS))
        found.append(random.choice(WORDS, size=random.integers(60, 100), p=own / own.sum()))
    return found


@pytest.mark.parametrize("members", [4, 12])
def test_texts_of_one_kind_are_not_told_apart(members):
    random = np.random.default_rng(members)
    found = [blind(texts(members, random), texts(50, random)) for _ in range(60)]
    # One side of a 95 % interval, and three deviations of the count.
    assert np.mean([i.low > 0.5 for i in found]) < 0.025 + 3 * (0.025 * 0.975 / 60) ** 0.5
    assert np.mean([i.estimate for i in found]) == pytest.approx(0.5, abs=0.08)


def test_texts_of_another_kind_are_told_apart():
    random = np.random.default_rng(0)
    other = FREQUENT.copy()
    other[20:60] *= 5
    found = blind(texts(12, random, other), texts(50, random))
    assert found.low > 0.5
    assert found.estimate > 0.85


def test_pairs_are_judged_by_a_classifier_that_saw_neither():
    random = np.random.default_rng(3)
    yes, no = texts(3, random), texts(4, random)
    every = [*yes, *no]
    table = np.array([np.bincount(t, minlength=WORDS + WORDS**2 + WORDS) for t in every])
    for row, text in zip(table, every, strict=True):
        np.add.at(row, WORDS + text[:-1] * WORDS + text[1:], 1)
    table = table[:, (table > 0).sum(axis=0) > 1]
    labels = np.repeat([1, 0], [3, 4])
    outcomes = []
    for i in range(3):
        for j in range(3, 7):
            rest = np.delete(np.arange(7), [i, j])
            peer = MultinomialNB(alpha=_SMOOTHING, fit_prior=False).fit(table[rest], labels[rest])
            # Log-odds per feature, so that a long text does not score higher for its length.
            odds = peer.feature_log_prob_[1] - peer.feature_log_prob_[0]
            own, other = (table[k] @ odds / table[k].sum() for k in (i, j))
            outcomes.append((np.sign(own - other) + 1) / 2)
    assert blind(yes, no).estimate == pytest.approx(np.mean(outcomes))


def test_too_few_texts_are_refused():
    with pytest.raises(InputError, match="at least two of each"):
        blind([np.array([1, 2])], [np.array([1])] * 3)
    with pytest.raises(InputError, match="without tokens"):
        blind([np.array([1, 2]), np.array([], dtype=int)], [np.array([1])] * 3)
