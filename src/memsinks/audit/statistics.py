"""How sure a figure is: bootstrap intervals over documents, and Wilson intervals of rates."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from memsinks.audit.losses import DocumentLosses
from memsinks.errors import InputError

BLOCK = 4_000_000
"""Resampling weights held in memory at once."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds it at ``level`` (0.95: 95 % of intervals made this way do)."""

    estimate: float
    low: float
    high: float
    level: float

    @property
    def bounds(self) -> tuple[float, float]:
        """``(low, high)``."""
        return self.low, self.high

    def to_json(self) -> dict[str, float]:
        """Plain Python values for :func:`json.dump`."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "level": self.level}


def bootstrap(
    statistic: Callable[..., Any],
    *samples: DocumentLosses,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over documents of a statistic of token-weighted means.

    Documents are drawn with replacement and each mean is the drawn documents' loss over their tokens. Samples with the
    same label in ``groups`` measure the same documents (two models, or two modes) and are drawn together, which keeps
    the pairing; samples with different labels are drawn apart::

        bootstrap(gap_closure, v_off, r_off, v_std, r_std, groups=["V", "R", "V", "R"])

    The interval speaks of the choice of documents only, not of the training seed. With fewer than about 20 documents it
    is too narrow.

    Args:
        statistic: takes one mean per sample, in order: floats, or arrays ``[resamples]``; returns the same kind.
        *samples: the losses of each sample.
        groups: one label for each sample; needed when there are several.
        resamples: how many times to draw.
        level: the interval's level, between 0 and 1.
        seed: of the draws.

    Raises:
        InputError: too few samples, documents or resamples, a bad level, labels that do not fit, or samples with one
            label that are not of the same documents in the same order.
    """
    labels = _labels(samples, groups)
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level ({level}) must lie between 0 and 1, and resamples ({resamples}) must be at least 1")
    rng = np.random.default_rng(seed)
    means = np.empty((len(samples), resamples))
    for label in dict.fromkeys(labels):
        members = [i for i, other in enumerate(labels) if other == label]
        means[members] = _resampled_means([samples[i] for i in members], resamples, rng)
    low, high = np.quantile(statistic(*means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(*(s.mean for s in samples))), float(low), float(high), level)


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean of ``first`` less that of ``second``.

    The values of each are drawn with replacement, apart from those of the other. A single value has no spread: it is
    taken for all there are. As with :func:`bootstrap`, the interval is too narrow for a handful of values.

    Args:
        first, second: ``float64``, one value for each document.
        resamples: how many times to draw.
        level: the interval's level, between 0 and 1.
        seed: of the draws.

    Raises:
        InputError: there are no values, too few resamples, or a bad level.
    """
    if not len(first) or not len(second) or not 0 < level < 1 or resamples < 1:
        raise InputError(
            f"no interval for the difference of {len(first)} and {len(second)} values at level {level}, {resamples} "
            "resamples: expected at least one of each, and a level between 0 and 1"
        )
    rng = np.random.default_rng(seed)
    drawn = []
    for values in (first, second):
        means = np.empty(resamples)
        step = max(1, BLOCK // len(values))
        for start in range(0, resamples, step):
            size = (min(step, resamples - start), len(values))
            means[start : start + step] = values[rng.integers(len(values), size=size)].mean(axis=1)
        drawn.append(means)
    low, high = np.quantile(drawn[0] - drawn[1], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(first.mean() - second.mean()), float(low), float(high), level)


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a rate, without continuity correction; sound for rates of 0 and 1 too.

    Raises:
        InputError: no trials, successes outside ``[0, trials]``, or a bad level.
    """
    if trials < 1 or not 0 <= successes <= trials or not 0 < level < 1:
        raise InputError(f"no interval for {successes} of {trials} at level {level}: expected 0 <= successes <= trials")
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, scale = successes / trials, 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # Rounding must not move the closed ends off the exact bounds.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(rate, low, high, level)


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t.

    Args:
        probability: between 0.5 and 1.
        freedom: degrees of freedom, at least 1.

    Raises:
        InputError: either is outside its range.
    """
    if not 0.5 <= probability < 1 or freedom < 1:
        raise InputError(f"no quantile of Student's t for probability {probability} and {freedom} degrees of freedom")
    low, high = 0.0, 1.0
    while _student(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _student(t: float, freedom: int) -> float:
    """Distribution function for t >= 0, by the finite series for whole degrees of freedom."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return (1 + inside) / 2


def _labels(samples: Sequence[DocumentLosses], groups: Sequence[Hashable] | None) -> list[Hashable]:
    if not samples:
        raise InputError("bootstrap needs at least one sample")
    if groups is None and len(samples) > 1:
        raise InputError("bootstrap of several samples needs groups: one label each, the same for the same documents")
    labels: list[Hashable] = list(groups) if groups is not None else [0]
    if len(labels) != len(samples):
        raise InputError(f"groups has {len(labels)} labels for {len(samples)} samples")
    first: dict[Hashable, DocumentLosses] = {}
    for label, sample in zip(labels, samples, strict=True):
        if len(sample) < 2:
            raise InputError(f"group {label!r} has {len(sample)} document(s); resampling needs at least 2")
        if first.setdefault(label, sample).names != sample.names:
            raise InputError(f"the samples of group {label!r} do not hold the same documents in the same order")
    return labels


def _resampled_means(samples: Sequence[DocumentLosses], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of ``[samples, resamples]`` under shared draws."""
    count = len(samples[0])
    losses = np.stack([s.loss_sum for s in samples], axis=1)
    tokens = np.stack([s.tokens for s in samples], axis=1).astype(np.float64)
    means = np.empty((len(samples), resamples))
    step = max(1, BLOCK // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = rng.integers(count, size=(stop - start, count))
        rows = np.arange(stop - start)[:, None] * count
        weights = np.bincount((drawn + rows).ravel(), minlength=(stop - start) * count)
        weights = weights.reshape(stop - start, count).astype(np.float64)
        means[:, start:stop] = ((weights @ losses) / (weights @ tokens)).T
    return means
