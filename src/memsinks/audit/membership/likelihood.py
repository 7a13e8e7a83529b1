"""Attacks that need only the probabilities of a text's tokens."""

import zlib
from collections.abc import Sequence

import numpy as np

from memsinks.audit.token_scores import TokenScores
from memsinks.errors import InputError

_LEAST_DEVIATION = 1e-3


def loss(scores: Sequence[TokenScores]) -> np.ndarray:
    """``(1 / n) Σ_t log p(x_t | x_<t)`` of each document (Yeom et al. 2018, arXiv 1709.01604)."""
    return np.array([-score.loss for score in scores])


def against_reference(losses: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """``loss_reference(x) - loss(x)``, which is high where the text is easy for this model only.

    (Carlini et al. 2021, arXiv 2012.07805; as a difference: Mireshghallah et al. 2022, arXiv 2203.03929.)

    Args:
        losses: nats per token of each document.
        reference: the same under another model.
    """
    return np.asarray(reference) - losses


def against_bits(scores: Sequence[TokenScores], texts: Sequence[str]) -> np.ndarray:
    """``-nats(x) / bits(x)``, bits being what zlib makes of the text, so that repetitive text is no surprise.

    (Carlini et al. 2021, arXiv 2012.07805.) The loss is summed over tokens, so that the length cancels.
    """
    bits = [8 * len(zlib.compress(text.encode("utf-8", "surrogatepass"))) for text in texts]
    return _nats(scores) / np.array(bits)


def against_lowercase(scores: Sequence[TokenScores], lowered: Sequence[TokenScores]) -> np.ndarray:
    """``-nats(x) / nats(lower(x))``, which is high where capitals matter (Carlini et al. 2021, arXiv 2012.07805).

    Losses are summed over tokens, of which the two texts have not equally many.
    """
    return _nats(scores) / np.maximum(-_nats(lowered), 1e-9)


def min_k(scores: Sequence[TokenScores], share: float = 0.2) -> np.ndarray:
    """Mean log-probability of the ``share`` of least likely tokens, Min-K % (Shi et al. 2024, arXiv 2310.16789).

    Raises:
        InputError: ``share`` is not in ``(0, 1]``.
    """
    return np.array([_lowest(score.log_probability, share) for score in scores])


def min_k_plus_plus(scores: Sequence[TokenScores], share: float = 0.2) -> np.ndarray:
    """Min-K % of ``(log p(x_t | x_<t) - μ_t) / σ_t``, Min-K %++ (Zhang et al. 2024, arXiv 2404.02936).

    μ_t and σ_t are mean and deviation of the log-probability of a token drawn from the model at that place: a token is
    judged by how likely it is among those that could have stood there.

    Raises:
        InputError: ``share`` is not in ``(0, 1]``.
    """
    return np.array(
        [
            # A model that is sure of one token has no deviation.
            _lowest((s.log_probability - s.expected) / np.maximum(s.deviation, _LEAST_DEVIATION), share)
            for s in scores
        ]
    )


def _nats(scores: Sequence[TokenScores]) -> np.ndarray:
    return np.array([score.log_probability.sum() for score in scores])


def _lowest(values: np.ndarray, share: float) -> float:
    if not 0 < share <= 1:
        raise InputError(f"a share of {share} of a text's tokens is none; give one above 0 and at most 1")
    return float(np.sort(values)[: max(1, int(len(values) * share))].mean())
