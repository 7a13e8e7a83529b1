"""Non-members that are as long as the members."""

import numpy as np

from memsinks.errors import InputError


def matched(members: np.ndarray, others: np.ndarray, tolerance: float = 0.1) -> np.ndarray:
    """Choose others whose lengths are distributed as those of the members.

    Round by round each member, the longest first, takes the unused text nearest in length; a round in which a member
    finds none within the tolerance does not count, and is the last. So every member has equally many.

    Args:
        members: ``int64 [m]``, their lengths in tokens, at least one.
        others: ``int64 [n]``, those of the texts to choose from.
        tolerance: largest difference, as a fraction of the member's length.

    Returns:
        Positions in ``others``, sorted; empty if not even one round succeeds.

    Raises:
        InputError: there are no members, or ``tolerance`` is negative.
    """
    if not len(members) or tolerance < 0:
        raise InputError(f"matching needs at least one member and a tolerance of 0 or more, not {tolerance}")
    free = np.ones(len(others), dtype=bool)
    chosen: list[int] = []
    while True:
        own: list[int] = []
        for length in sorted(members.tolist(), reverse=True):
            away = np.where(free, np.abs(others - length), np.inf)
            nearest = int(np.argmin(away)) if len(away) else -1
            if nearest < 0 or away[nearest] > tolerance * length:
                return np.array(sorted(chosen), dtype=np.int64)
            free[nearest] = False
            own.append(nearest)
        chosen += own
