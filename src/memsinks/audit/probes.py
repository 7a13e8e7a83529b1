"""A linear probe that sorts documents by their hidden states."""

import numpy as np

from memsinks.errors import InputError


def left_out_scores(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Scores of a linear probe that sorts documents, each by a probe fitted without it.

    Ridge regression on standardised features, with classes weighed alike; the penalty is the number of features. The
    label of the left-out document plays no part in its score, nor in the classes' weights.

    Args:
        features: ``float64 [documents, features]``.
        labels: ``bool [documents]``, at least two of either kind.

    Raises:
        InputError: fewer than two of a kind.
    """
    if min(labels.sum(), (~labels).sum()) < 2:
        raise InputError("a probe needs at least two documents of either kind; give more text")
    spread = features.std(0)
    x = (features - features.mean(0)) / np.where(spread == 0, 1, spread)
    x = np.hstack([x, np.ones((len(x), 1))])
    scores = np.empty(len(x))
    for left in range(len(x)):
        kept = np.arange(len(x)) != left
        a, b = x[kept], labels[kept]
        weight = np.where(b, 0.5 / b.sum(), 0.5 / (~b).sum())
        target = np.where(b, 1.0, -1.0)
        # As many unknowns as documents, not as features.
        kernel = a @ a.T / x.shape[1]
        dual = np.linalg.solve(kernel + np.diag(1 / (weight * len(a))), target)
        scores[left] = x[left] @ a.T @ dual / x.shape[1]
    return scores
