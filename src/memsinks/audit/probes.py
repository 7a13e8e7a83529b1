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
    kernel, target = x @ x.T / x.shape[1], np.where(labels, 1.0, -1.0)
    for kind in (True, False):
        # Weights as they are once a document of this kind is left out; the formula for leaving one out is exact then.
        counts = {label: int((labels == label).sum()) - (label == kind) for label in (True, False)}
        weight = np.where(labels, 0.5 / counts[True], 0.5 / counts[False]) * (len(x) - 1)
        smoother = np.linalg.solve(kernel + np.diag(1 / weight), kernel).T
        own = np.diagonal(smoother)
        left_out = (smoother @ target - own * target) / (1 - own)
        scores[labels == kind] = left_out[labels == kind]
    return scores
