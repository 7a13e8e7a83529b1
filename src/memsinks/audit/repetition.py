"""How much text repeats itself, and how rich it is, from tokens."""

from collections.abc import Sequence

import numpy as np

from memsinks.errors import InputError


def repeated_share(tokens: np.ndarray, n: int) -> float:
    """Share of a text's n-grams that are repetitions of earlier ones: seq-rep-n of Welleck et al. (arXiv 1908.04319).

    ``1 - distinct n-grams / n-grams``; 0 where none repeats, also where the text has no n-gram.

    Raises:
        InputError: ``n`` is below 1.
    """
    grams = _grams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[np.ndarray], n: int) -> float:
    """Distinct n-grams of several texts over all their n-grams: distinct-n of Li et al. (arXiv 1510.03055).

    It falls with the amount of text, so only texts of like length and number compare; with n = 1 it is the type-token
    ratio.

    Raises:
        InputError: ``n`` is below 1, or no text has an n-gram.
    """
    grams = [gram for tokens in texts for gram in _grams(tokens, n)]
    if not grams:
        raise InputError(f"none of {len(texts)} texts has {n} tokens, so there are no {n}-grams to count")
    return len(set(grams)) / len(grams)


def _grams(tokens: np.ndarray, n: int) -> list[tuple[int, ...]]:
    if n < 1:
        raise InputError(f"n-grams of {n} tokens are none; n must be at least 1")
    values = np.asarray(tokens).tolist()
    return [tuple(values[i : i + n]) for i in range(len(values) - n + 1)]
