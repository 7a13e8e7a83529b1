"""Is a model better than another at one set of texts by more than it is at other text? A difference in differences."""

import math

import numpy as np

from memsinks.audit.losses import DocumentLosses
from memsinks.audit.statistics import Interval, student_quantile
from memsinks.errors import InputError


def advantage_difference(
    model: DocumentLosses,
    baseline: DocumentLosses,
    model_elsewhere: DocumentLosses,
    baseline_elsewhere: DocumentLosses,
    *,
    level: float = 0.95,
) -> Interval:
    """How much more a model's advantage over a baseline is on some documents than elsewhere, in nats per token.

    ``(baseline - model) - (baseline_elsewhere - model_elsewhere)``, each a mean over tokens. A model that is better in
    general is better elsewhere too, so that only what it knows of these documents is left.

    The interval is paired: the advantage of a document is one value, of which the sum over the sum of tokens is a ratio
    estimate, linearised (Cochran 1977, chapter 6). It is Welch's, with Student's distribution, so that it holds for a
    handful of documents, for which a bootstrap is too narrow; for many the two agree.

    Args:
        model: losses of the documents in question.
        baseline: of the same documents, in the other model.
        model_elsewhere: of other documents.
        baseline_elsewhere: of those in the other model.
        level: of the interval.

    Raises:
        InputError: fewer than two documents, or the two models' are not the same.
    """
    here, spread, count = _advantage(model, baseline)
    there, spread_elsewhere, count_elsewhere = _advantage(model_elsewhere, baseline_elsewhere)
    variance = spread + spread_elsewhere
    if variance == 0:
        return Interval(here - there, here - there, here - there, level)
    freedom = variance**2 / (spread**2 / (count - 1) + spread_elsewhere**2 / (count_elsewhere - 1))
    half = student_quantile((1 + level) / 2, max(1, math.floor(freedom))) * math.sqrt(variance)
    return Interval(here - there, here - there - half, here - there + half, level)


def token_mean(losses: DocumentLosses, *, level: float = 0.95) -> Interval:
    """Mean loss of a token with an interval over documents that holds for a handful of them, too.

    Raises:
        InputError: fewer than two documents.
    """
    nothing = DocumentLosses(losses.names, np.zeros(len(losses)), losses.tokens)
    mean, variance, count = _advantage(nothing, losses)
    half = student_quantile((1 + level) / 2, count - 1) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, level)


def _advantage(model: DocumentLosses, baseline: DocumentLosses) -> tuple[float, float, int]:
    """Mean advantage of a token, the variance of that mean, and how many documents it is of."""
    if model.names != baseline.names or not np.array_equal(model.tokens, baseline.tokens):
        raise InputError("an advantage is of the same documents in two models; these have other names or lengths")
    count = len(model)
    if count < 2:
        raise InputError(f"an interval over {count} document(s) is not defined; measure at least 2")
    gained = baseline.loss_sum - model.loss_sum
    mean = gained.sum() / model.tokens.sum()
    residuals = (gained - mean * model.tokens) / model.tokens.mean()
    return float(mean), float(residuals.var(ddof=1) / count), count
