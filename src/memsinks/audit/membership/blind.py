"""A control: can the two sets of texts be told apart without any model?"""

from collections.abc import Sequence

import numpy as np

from memsinks.audit.metrics.ranking import interval_of_auc
from memsinks.audit.statistics import Interval
from memsinks.errors import InputError

_SMOOTHING = 0.1
PERMUTATIONS = 50
"""Shuffled labels whose AUC says how much that of no difference varies."""


def blind(
    members: Sequence[np.ndarray], others: Sequence[np.ndarray], *, level: float = 0.95, seed: int = 0
) -> Interval:
    """AUC of a classifier that sees only words: where it is above 1/2, an attack's success may be the texts' own.

    Blind baselines beat published attacks on data whose members and non-members differ (Das et al. 2024, arXiv
    2406.16201; Meeus et al. 2024, arXiv 2406.17975). This one is naive Bayes on tokens and pairs of neighbouring
    tokens. Each member is compared with each other text by a classifier trained on all but these two (leave-pair-out,
    Airola et al. 2011, Computational Statistics and Data Analysis 55), which is unbiased for a handful of texts too.
    The interval is that of :func:`~memsinks.audit.metrics.auc_interval`, made as much wider as the AUC of shuffled
    labels varies more than that of a fixed score: the classifier itself depends on the texts.

    Args:
        members: tokens of each, int64.
        others: tokens of each, int64.
        level: the interval's level.
        seed: of shuffling.

    Raises:
        InputError: a side has fewer than two texts, or a text is empty.
    """
    if min(len(members), len(others)) < 2:
        raise InputError(
            f"{len(members)} members and {len(others)} other texts: a blind classifier needs at least two of each"
        )
    if any(not len(tokens) for tokens in (*members, *others)):
        raise InputError("a text without tokens cannot be classified; leave it out")
    counts, m = _counts([*members, *others]), len(members)
    outcome = _outcomes(counts[:m], counts[m:])
    random = np.random.default_rng(seed)
    shuffled = (counts[random.permutation(len(counts))] for _ in range(PERMUTATIONS))
    spread = np.std([_outcomes(table[:m], table[m:]).mean() for table in shuffled])
    return interval_of_auc(
        float(outcome.mean()), outcome.mean(axis=1), 1 - outcome.mean(axis=0), level, least_deviation=float(spread)
    )


def _counts(texts: Sequence[np.ndarray]) -> np.ndarray:
    """How often each text has each feature, ``float64 [texts, features]``; features of one text alone tell nothing."""
    base = 1 + max(int(tokens.max()) for tokens in texts)
    features = [np.concatenate([t, base + t[:-1] * base + t[1:]]) for t in texts]
    known, number = np.unique(np.concatenate(features), return_inverse=True)
    rows = np.repeat(np.arange(len(texts)), [len(f) for f in features])
    pairs, times = np.unique(rows * len(known) + number, return_counts=True)
    shared = np.bincount(pairs % len(known), minlength=len(known)) > 1
    table = np.zeros((len(texts), int(shared.sum())))
    column = np.cumsum(shared) - 1
    kept = shared[pairs % len(known)]
    table[pairs[kept] // len(known), column[pairs[kept] % len(known)]] = times[kept]
    return table


def _outcomes(yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """Whether each member scores higher than each other text, ``float64 [m, n]``; 1/2 where they tie."""
    # Both are in favour of the text's own side; another text scores low as a member where its own side claims it.
    return (np.sign(_for_own_side(yes, no) + _for_own_side(no, yes).T) + 1) / 2


def _for_own_side(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Log-odds per token that each text belongs to its side, with it and one text of the other side left out.

    Returns:
        ``float64 [own, other]``.
    """
    own_sum, other_sum = own.sum(axis=0) + _SMOOTHING, other.sum(axis=0) + _SMOOTHING
    lengths, other_lengths = own.sum(axis=1), other.sum(axis=1)
    here = np.einsum("if,if->i", own, _log_without(own, own_sum)) + own @ np.log(own_sum)
    there = own @ _log_without(other, other_sum).T + (own @ np.log(other_sum))[:, None]
    scale = np.maximum(lengths, 1.0)
    mine = here / scale - np.log(own_sum.sum() - lengths)
    return mine[:, None] - (there / scale[:, None] - np.log(other_sum.sum() - other_lengths))


def _log_without(texts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """``log(total - text) - log(total)`` of each text and feature, which is 0 nearly everywhere."""
    found = np.zeros_like(texts)
    rows, columns = np.nonzero(texts)
    found[rows, columns] = np.log1p(-texts[rows, columns] / total[columns])
    return found
