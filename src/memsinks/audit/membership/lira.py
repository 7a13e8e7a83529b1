"""Likelihood-ratio attack from shadow models (LiRA, Carlini et al. 2022, arXiv 2112.03570)."""

import numpy as np

from memsinks.errors import InputError

PER_DOCUMENT = 32
"""Shadow models from which on each document has a deviation of its own; below, all share one."""


def lira(confidence: np.ndarray, shadows: np.ndarray, inside: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Offline LiRA: ``(φ(x) - μ_out(x)) / σ_out``, how far above models that never saw the text this one is.

    φ is a confidence, such as the mean log-probability of a document's tokens; μ_out and σ_out are its mean and
    deviation over shadow models that were not trained on x. The offline attack suits held-out text, which no model was
    trained on. Every document is judged by equally many models, drawn at random from those that did not see it: else
    the mean of some would be surer than that of others, and their scores less spread. With fewer than
    :data:`PER_DOCUMENT` of them, documents share one deviation.

    Args:
        confidence: ``float64 [d]``, of each document under the model that is attacked.
        shadows: ``float64 [s, d]``, the same under each shadow model.
        inside: ``bool [s, d]``, whether it was trained on the document.
        seed: of the choice of models.

    Returns:
        ``float64 [d]``, higher for members.

    Raises:
        InputError: shapes do not fit, or a document was left out by fewer than two shadow models.
    """
    if shadows.shape != inside.shape or shadows.shape[1:] != confidence.shape:
        raise InputError(
            f"shadow confidences {list(shadows.shape)} and memberships {list(inside.shape)} must have a row for each "
            f"model and a column for each of {len(confidence)} documents"
        )
    left_out = (~inside).sum(axis=0)
    used = int(left_out.min(initial=len(shadows)))
    if used < 2:
        raise InputError(
            f"document {int(left_out.argmin()) + 1} of {len(confidence)} was left out by {used} shadow models; at "
            "least 2 of them have to be trained without it"
        )
    draws = np.random.default_rng(seed).random(shadows.shape)
    order = np.argsort(np.where(inside, np.inf, draws), axis=0)[:used]
    out = np.take_along_axis(shadows, order, axis=0)
    variance = out.var(axis=0, ddof=1)
    deviation = np.sqrt(variance if used >= PER_DOCUMENT else variance.mean())
    return (confidence - out.mean(axis=0)) / np.maximum(deviation, 1e-12)
