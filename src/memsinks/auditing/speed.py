"""What tasks will take, from how fast the model reads and writes on this machine."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument, document_losses, greedy_extraction
from memsinks.auditing.conditions import Opened
from memsinks.auditing.task import Cost
from memsinks.training.run import bf16_pays

BACKWARD = 3.0
"""Cost of a token read with gradients, in tokens read without."""
_ROWS = 8


@dataclass
class Speed:
    """Seconds of a token.

    Attributes:
        read: of a token read without gradients.
        write: of a token generated in a batch.
        factor: what tasks took over what was expected of them, so far.
    """

    read: float
    write: float
    factor: float = 1.0
    _expected: float = 0.0
    _taken: float = 0.0

    @classmethod
    def of(cls, subject: Opened, vocabulary: int, length: int, *, seed: int) -> "Speed":
        """Measure it, in a second or so, on tokens at random."""
        random = np.random.default_rng(seed)
        documents = [TokenizedDocument(str(i), random.integers(vocabulary, size=length), 0) for i in range(_ROWS)]

        def read() -> Any:
            return document_losses(subject.model, documents, mode=subject.mode, max_length=length, autocast=bf16_pays())

        half = max(1, length // 2)

        def write() -> Any:
            return greedy_extraction(
                subject.model, documents, mode=subject.mode, prefix=half, suffix=half, autocast=bf16_pays()
            )

        return cls(read=_timed(read) / (_ROWS * length), write=_timed(write) / (_ROWS * half))

    def seconds(self, cost: Cost) -> float:
        """Expected."""
        return self.factor * self._plain(cost)

    def learn(self, cost: Cost, seconds: float) -> None:
        """Take into account what a task took."""
        self._expected += self._plain(cost)
        self._taken += seconds
        if self._expected > 0:
            self.factor = max(1.0, self._taken / self._expected)

    def _plain(self, cost: Cost) -> float:
        return (cost.forward + BACKWARD * cost.backward) * self.read + cost.generated * self.write


def _timed(run: Any) -> float:
    run()
    at = time.perf_counter()
    run()
    return time.perf_counter() - at
