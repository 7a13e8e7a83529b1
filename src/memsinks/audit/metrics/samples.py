"""Whether two samples are of one distribution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memsinks.audit.metrics.checks import numbers
from memsinks.errors import InputError

_BLOCK = 2_000_000
"""Numbers held in memory at once."""


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """A two-sample test.

    Attributes:
        distance: the largest difference between the two distribution functions, 0 to 1.
        p: how likely so large a distance is if both samples are of one distribution.
    """

    distance: float
    p: float


def kolmogorov_smirnov(first: ArrayLike, second: ArrayLike) -> KolmogorovSmirnov:
    """Kolmogorov–Smirnov test of two samples, two-sided, with the exact p-value.

    All orders in which the two samples may be mixed are equally likely; counted are those that lead as far apart
    (Hodges 1958, Arkiv för Matematik 3). With ties p is too large rather than too small. Time is the product of the
    sizes.

    Raises:
        InputError: a sample is empty, or a number is not finite.
    """
    one, other = np.sort(numbers(first, "first sample")), np.sort(numbers(second, "second sample"))
    m, n = len(one), len(other)
    values = np.concatenate([one, other])
    # In units of 1 / (m n), where all is whole.
    steps = np.searchsorted(one, values, "right") * n - np.searchsorted(other, values, "right") * m
    farthest = int(np.abs(steps).max())
    return KolmogorovSmirnov(farthest / (m * n), _chance_of_reaching(m, n, farthest))


def _chance_of_reaching(m: int, n: int, farthest: int) -> float:
    """That a random path from (0, 0) to (m, n) comes as far from the diagonal.

    ``reached[j]`` is the chance that a path to (i, j) has; the last step to it was in i with chance i / (i + j).
    """
    if farthest == 0:
        return 1.0
    reached = np.zeros(n + 1)
    columns = np.arange(n + 1)
    for i in range(m + 1):
        far = np.abs(i * n - columns * m) >= farthest
        row, before = reached, 0.0
        reached = np.empty(n + 1)
        for j in range(n + 1):
            if far[j]:
                before = 1.0
            elif i or j:
                before = (i * (row[j] if i else 0.0) + j * (before if j else 0.0)) / (i + j)
            else:
                before = 0.0
            reached[j] = before
    return float(min(1.0, reached[n]))


def permutation_test(members: ArrayLike, others: ArrayLike, *, permutations: int = 9999, seed: int = 0) -> float:
    """p-value of the members' mean being larger, if which texts are members were chosen at random.

    A test of the whole set, which can be sure where no single text gives itself away (dataset inference, Maini et al.
    2024, arXiv 2406.06443, there with a t-test). The data's own order counts as one of the permutations, so p is never
    0 and a true null is rejected at most as often as it says.

    Args:
        members, others: scores, higher for members.
        permutations: how many are drawn.
        seed: of these.

    Raises:
        InputError: a side is empty, a score is not finite, or no permutation is asked for.
    """
    yes, no = numbers(members, "scores of members"), numbers(others, "scores of others")
    if permutations < 1:
        raise InputError(f"permutations ({permutations}) must be at least 1")
    scores, m = np.concatenate([yes, no]), len(yes)
    random = np.random.default_rng(seed)
    step = max(1, _BLOCK // len(scores))
    observed, larger = yes.sum(), 0
    for start in range(0, permutations, step):
        count = min(step, permutations - start)
        chosen = np.argpartition(random.random((count, len(scores))), m - 1, axis=1)[:, :m]
        # Sums in another order differ in the last bits.
        larger += int((scores[chosen].sum(axis=1) >= observed - 1e-9 * np.abs(scores).sum()).sum())
    return (1 + larger) / (1 + permutations)
