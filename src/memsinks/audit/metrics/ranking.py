"""How well a score tells members from others; a higher score says "member"."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from memsinks.audit.metrics.checks import numbers
from memsinks.audit.statistics import Interval, wilson
from memsinks.errors import InputError

_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Roc:
    """Rates as the threshold falls from above all scores to below them.

    Attributes:
        fpr: false-positive rate, float64 ``[points]``, from 0 to 1.
        tpr: true-positive rate, float64 ``[points]``, from 0 to 1.
    """

    fpr: np.ndarray
    tpr: np.ndarray


def auc(members: ArrayLike, others: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a member scores higher than another text, ties counting half.

    Mann–Whitney's U divided by the number of pairs (Hanley and McNeil 1982, Radiology 143).

    Raises:
        InputError: a side is empty, or a score is not finite.
    """
    return float(_placements(members, others)[0].mean())


def auc_interval(members: ArrayLike, others: ArrayLike, level: float = 0.95) -> Interval:
    """AUC with an interval that is sound for a handful of members, and at 0 and 1.

    The interval holds every ``a`` with ``|AUC - a| <= z sd(a)`` (a score interval, as method 5 of Newcombe 2006,
    Statistics in Medicine 25, 559–573), where ``sd(a)²`` is Hanley and McNeil's variance with both sizes at their mean;
    at ``a = 1/2`` that is the variance of Mann–Whitney's test. Where the variance that the scores show (DeLong et al.
    1988, Biometrics 44) is larger, because members are unlike each other, ``sd(a)²`` is raised by the same factor.

    Raises:
        InputError: a side is empty, a score is not finite, or ``level`` is not between 0 and 1.
    """
    by_member, by_other = _placements(members, others)
    return interval_of_auc(float(by_member.mean()), by_member, by_other, level)


def interval_of_auc(
    value: float, by_member: np.ndarray, by_other: np.ndarray, level: float = 0.95, *, least_deviation: float = 0.0
) -> Interval:
    """As :func:`auc_interval`, from how each member and each other text fared.

    Args:
        value: the AUC.
        by_member: ``float64 [m]``, share of the others below each member.
        by_other: ``float64 [n]``, share of the members above each other text.
        level: the interval's level, between 0 and 1.
        least_deviation: standard deviation of the AUC where nothing tells members, if it is known to be larger than
            that of a fixed score.

    Raises:
        InputError: ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"level ({level}) must lie between 0 and 1")
    m, n = len(by_member), len(by_other)
    z = NormalDist().inv_cdf((1 + level) / 2)
    shown = sum(float(side.var(ddof=1)) / len(side) for side in (by_member, by_other) if len(side) > 1)
    modelled = _variance(value, m, n)
    factor = max(1.0, shown / modelled if modelled > 0 else 1.0, least_deviation**2 / _variance(0.5, m, n))

    def inside(a: float) -> bool:
        return abs(value - a) <= z * math.sqrt(factor * _variance(a, m, n))

    return Interval(value, _edge(value, 0.0, inside), _edge(value, 1.0, inside), level)


def _variance(a: float, m: int, n: int) -> float:
    size = (m + n) / 2 - 1
    return a * (1 - a) * (1 + size * ((1 - a) / (2 - a) + a / (1 + a))) / (m * n)


def _edge(start: float, end: float, inside: Callable[[float], bool]) -> float:
    """Where ``inside`` ends between the estimate and 0 or 1, which is outside unless it is the estimate."""
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        if inside(middle):
            start = middle
        else:
            end = middle
    return start


def roc_curve(members: ArrayLike, others: ArrayLike) -> Roc:
    """The ROC curve: its corners, at each of which scores at or above a threshold are called members.

    Raises:
        InputError: a side is empty, or a score is not finite.
    """
    yes, no = np.sort(numbers(members, "scores of members")), np.sort(numbers(others, "scores of others"))
    thresholds = np.unique(np.concatenate([yes, no]))[::-1]
    tpr = 1 - np.searchsorted(yes, thresholds, side="left") / len(yes)
    fpr = 1 - np.searchsorted(no, thresholds, side="left") / len(no)
    tpr, fpr = np.concatenate([[0.0], tpr]), np.concatenate([[0.0], fpr])
    # Points on a straight line between their neighbours say nothing.
    turns = np.diff(tpr)[:-1] * np.diff(fpr)[1:] != np.diff(tpr)[1:] * np.diff(fpr)[:-1]
    kept = np.concatenate([[True], turns, [True]])
    return Roc(fpr[kept], tpr[kept])


def tpr_at_fpr(members: ArrayLike, others: ArrayLike, fpr: float, level: float = 0.95) -> Interval | None:
    """Share of members that score above all but ``fpr`` of the others, with Wilson's interval over members.

    The threshold is the highest score of the others that may be passed, so that at most ``floor(fpr · n)`` of them are
    above it; the interval does not speak of their choice. What attackers get who must rarely be wrong (Carlini et al.
    2022, arXiv 2112.03570).

    Returns:
        None if there are fewer than ``1 / fpr`` others: so low a rate cannot be told from 0 then.

    Raises:
        InputError: a side is empty, a score is not finite, or ``fpr`` is not between 0 and 1.
    """
    yes, no = numbers(members, "scores of members"), np.sort(numbers(others, "scores of others"))
    if not 0 < fpr < 1:
        raise InputError(f"a false-positive rate of {fpr} says nothing; give one between 0 and 1")
    # 100 others show 1 % though 0.01 * 100 may round below 1.
    allowed = math.floor(fpr * len(no) + 1e-9)
    if allowed < 1:
        return None
    return wilson(int((yes > no[-allowed - 1]).sum()), len(yes), level)


def _placements(members: ArrayLike, others: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Of each member, the share of others below it; of each other text, the share of members above it; ties half."""
    yes, no = numbers(members, "scores of members"), numbers(others, "scores of others")
    return _below(yes, np.sort(no)), 1 - _below(no, np.sort(yes))


def _below(scores: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    left, right = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    return (left + right) / (2 * len(ordered))
