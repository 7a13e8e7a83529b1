"""How much of a text a model gives back, from the tokens that it predicts or writes."""

import math

import numpy as np
from numpy.typing import ArrayLike

from memsinks.audit.metrics.checks import numbers, same_length


def exact_memorisation(expected: ArrayLike, predicted: ArrayLike) -> float:
    """Share of tokens that are the most likely ones, given the true tokens before them; 0 to 1.

    ``EM = (1 / n) · Σ_t [argmax_v p(v | y_<t) = y_t]`` (Tirumala et al. 2022, arXiv 2205.10770, as in OpenUnlearning,
    arXiv 2506.12618).

    Args:
        expected: tokens of the text, ``[n]``.
        predicted: the most likely token at each position, ``[n]``.

    Raises:
        InputError: they are empty, or differ in length.
    """
    truth, most_likely = same_length(expected, predicted, "exact memorisation")
    return float((truth == most_likely).mean())


def extraction_strength(expected: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the text that greedy decoding gives back from the shortest beginning that suffices; 0 to 1.

    ``ES = 1 - min{k : f(y_<k) = y_≥k} / n`` (Carlini et al. 2021, arXiv 2012.07805, as in OpenUnlearning, arXiv
    2506.12618). Where every prediction from k on is right, so is decoding, hence one pass over the text is enough. It
    is 0 where not even the last token is predicted; OpenUnlearning's program gives 1 / n there.

    Args:
        expected: tokens of the text, ``[n]``.
        predicted: the most likely token at each position, ``[n]``.

    Raises:
        InputError: they are empty, or differ in length.
    """
    truth, most_likely = same_length(expected, predicted, "extraction strength")
    wrong = np.flatnonzero(truth != most_likely)
    return 1.0 if not len(wrong) else float(1 - (wrong[-1] + 1) / len(truth))


def probability(log_probabilities: ArrayLike) -> float:
    """Geometric mean of the tokens' probabilities, ``p(y | x)^(1 / n)``; 0 to 1 (TOFU, arXiv 2401.06121).

    Args:
        log_probabilities: of each token given those before it, in nats, ``[n]``.

    Raises:
        InputError: there is none, or one is not finite.
    """
    return math.exp(float(numbers(log_probabilities, "log-probabilities").mean()))


def rouge_l_recall(expected: ArrayLike, written: ArrayLike) -> float:
    """Longest common subsequence over the length of the expected text; 0 to 1 (Lin 2004, ROUGE).

    Args:
        expected: tokens, or words by number, ``[n]``, at least one.
        written: what the model wrote, of any length.

    Raises:
        InputError: nothing is expected.
    """
    truth, text = same_length(expected, expected, "ROUGE-L")[0], np.asarray(written)
    longest = np.zeros(len(truth) + 1, dtype=np.int64)
    for token in text:
        # A token extends the best match before it; the running maximum carries that on.
        extended = np.where(truth == token, longest[:-1] + 1, longest[1:])
        longest[1:] = np.maximum.accumulate(np.maximum(extended, longest[1:]))
    return float(longest[-1] / len(truth))
