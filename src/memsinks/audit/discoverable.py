"""(n, p)-discoverable extraction: how many samples bring out a text, and with what chance.

Hayes et al. 2025, "Measuring memorization in language models via probabilistic extraction", arXiv 2410.19482. The
chance of a suffix under a sampling scheme is known exactly from one pass (:mod:`memsinks.audit.forced`), so nothing has
to be sampled.
"""

import numpy as np
from numpy.typing import ArrayLike

from memsinks.errors import InputError

_TINY = np.log(1e-9)


def chance_within(log_chance: ArrayLike, draws: float) -> np.ndarray:
    """The chance that at least one of independent samples is the text, ``1 - (1 - exp(log_chance)) ** draws``.

    Args:
        log_chance: natural logarithm of the chance of one sample, at most 0 but for rounding.
        draws: samples, at least 1.

    Raises:
        InputError: fewer than one sample.
    """
    if draws < 1:
        raise InputError(f"draws ({draws}) must be at least 1")
    once = np.exp(np.minimum(np.asarray(log_chance, dtype=np.float64), 0.0))
    with np.errstate(divide="ignore"):
        return -np.expm1(draws * np.log1p(-once))


def log10_draws_needed(log_chance: ArrayLike, chance: float = 0.5) -> np.ndarray:
    """Decimal logarithm of how many samples bring out the text with ``chance``; inf where no number does.

    The number is not rounded to a whole one, and at least 1.

    Args:
        log_chance: as in :func:`chance_within`.
        chance: above 0 and below 1.

    Raises:
        InputError: ``chance`` is out of range.
    """
    if not 0 < chance < 1:
        raise InputError(f"chance ({chance}) must lie between 0 and 1")
    log_chance = np.minimum(np.asarray(log_chance, dtype=np.float64), 0.0)
    with np.errstate(divide="ignore"):
        # -log(1 - p) is p where p is so small that 1 - p would lose it.
        rate = np.where(log_chance < _TINY, log_chance, np.log(-np.log1p(-np.exp(log_chance))))
    return np.maximum(np.log(-np.log1p(-chance)) - rate, 0.0) / np.log(10)
