"""A figure against draws of control text: what the same measure gives for sets that the model never saw.

A set of documents differs from another by chance, and by more than an interval over its documents may say. So a measure
of the target is held against the same measure of several control sets of the same size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.statistics import Interval, student_quantile
from memsinks.errors import InputError


@dataclass(frozen=True)
class Contrast:
    """How far a target's value lies from those of control sets.

    Attributes:
        value: of the target.
        controls: of each control set, at least two.
    """

    value: float
    controls: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.controls) < 2:
            raise InputError(f"{len(self.controls)} control set(s): a spread needs at least 2; give more held-out text")

    @property
    def centre(self) -> float:
        """Mean of the controls."""
        return float(np.mean(self.controls))

    @property
    def spread(self) -> float:
        """Standard deviation of one control set's value."""
        return float(np.std(self.controls, ddof=1))

    @property
    def deviation(self) -> float:
        """Standard deviation of the difference, if the target is one more control set."""
        return self.spread * math.sqrt(1 + 1 / len(self.controls))

    @property
    def z(self) -> float:
        """The difference in standard deviations; infinite if the controls are all the same and the target is not."""
        difference = self.value - self.centre
        if self.deviation == 0:
            return 0.0 if difference == 0 else math.copysign(math.inf, difference)
        return difference / self.deviation

    @property
    def above(self) -> int:
        """How many controls the target exceeds."""
        return sum(self.value > control for control in self.controls)

    def interval(self, level: float = 0.95) -> Interval:
        """The difference from the controls' mean, with the prediction interval of Student's t.

        If the target is one more control set and values are about normal, the interval holds 0 in ``level`` of cases.
        """
        difference = self.value - self.centre
        half = student_quantile((1 + level) / 2, len(self.controls) - 1) * self.deviation
        return Interval(difference, difference - half, difference + half, level)


def control_sets(
    documents: Sequence[TokenizedDocument], size: int, most: int, *, seed: int
) -> list[list[TokenizedDocument]]:
    """Disjoint sets of ``size`` documents, drawn at random.

    Args:
        documents: to draw from.
        size: of each set.
        most: sets; fewer if the documents do not go round.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    count = min(most, len(documents) // size)
    return [[documents[i] for i in order[n * size : (n + 1) * size]] for n in range(count)]
