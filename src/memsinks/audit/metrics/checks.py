"""Arguments of metrics."""

import numpy as np
from numpy.typing import ArrayLike

from memsinks.errors import InputError


def numbers(values: ArrayLike, what: str) -> np.ndarray:
    """One row of finite numbers, float64.

    Raises:
        InputError: it is empty, of another shape, or has a number that is not finite.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise InputError(f"{what}: expected a row of at least one number, not shape {list(found.shape)}")
    if not np.isfinite(found).all():
        raise InputError(f"{what}: {int((~np.isfinite(found)).sum())} of {found.size} numbers are not finite")
    return found


def same_length(first: ArrayLike, second: ArrayLike, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of tokens, position by position.

    Raises:
        InputError: they are empty, or differ in length.
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != other.shape or not one.size:
        raise InputError(
            f"{what}: expected two rows of equal length with at least one token, not {list(one.shape)} and "
            f"{list(other.shape)}"
        )
    return one, other
