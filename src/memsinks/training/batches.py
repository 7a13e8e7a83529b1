"""Which rows each rank reads in each micro-batch: a function of the step alone, so nothing has to be saved to resume.

An optimiser step takes the next ``batch_size`` rows of the stream whatever the number of ranks. They are dealt out in
micro-batches, first to all ranks, then to all ranks again; where that takes more than one round and their lengths are
known, the shortest rows first, since a micro-batch is padded to its longest row. No row is repeated to come out even: a
rank may get a short micro-batch, or none, for which it computes a batch of padding so that ranks keep in step.
"""

import math
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from memsinks.errors import WorkerError
from memsinks.stream.rows import IGNORED


class RankBatches(Sampler[list[int]]):
    """Row indices of one rank's micro-batches over a pass through ``rows`` rows.

    Attributes:
        accumulation: micro-batches of a rank in each step.
        steps: optimiser steps in a pass.
        start: step to begin with; it applies to the next iteration only.

    Args:
        rows: rows in the stream.
        batch_size: rows in an optimiser step, over all ranks.
        micro_batch_size: most rows of a rank at a time.
        rank, world: this rank, and how many there are.
        lengths: tokens of each row, ``[rows]``.
    """

    def __init__(
        self,
        rows: int,
        *,
        batch_size: int,
        micro_batch_size: int,
        rank: int = 0,
        world: int = 1,
        lengths: np.ndarray | None = None,
    ) -> None:
        self.rows, self.batch_size, self.micro_batch_size = rows, batch_size, micro_batch_size
        self.rank, self.world = rank, world
        self.accumulation = math.ceil(batch_size / (micro_batch_size * world))
        self.steps = math.ceil(rows / batch_size)
        self.lengths = lengths if self.accumulation > 1 else None
        self.start = 0

    def __len__(self) -> int:
        return self.steps * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        for step in range(start, self.steps):
            rows = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, self.rows))
            if self.lengths is not None:
                rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            for micro in range(self.accumulation):
                first = (micro * self.world + self.rank) * self.micro_batch_size
                yield rows[first : first + self.micro_batch_size].tolist()


def trailing(predicted: torch.Tensor) -> int:
    """Slots behind the last predicted token of each row, which are padding: ``bool [B, T]`` to their number.

    The first token of a chunk is not predicted either, but another of the chunk always follows it.
    """
    places = torch.arange(1, predicted.shape[-1] + 1, device=predicted.device)
    return predicted.numel() - int((predicted * places).amax(dim=-1).sum()) if predicted.numel() else 0


class PaddingCollator:
    """Collates as ``collator`` does; no rows become a batch of one row in which nothing is predicted or counted."""

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]], dataset: Dataset) -> None:
        self._collator = collator
        self._dataset = dataset

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """A batch of ``rows``."""
        if rows:
            return self._collator(rows)
        batch = self._collator([self._dataset[0]])
        batch["labels"] = torch.full_like(batch.get("labels", batch["input_ids"]), IGNORED)
        if "sequence_ids" in batch:
            batch["sink_mask"] = torch.zeros_like(batch["sequence_ids"], dtype=torch.bool)
        for name in ("sink_frozen", "shared_frozen"):
            batch.pop(name, None)
        if "exposed_ids" in batch:
            batch["exposed_ids"] = batch["exposed_ids"][:0]
        return batch


WORKER_DIED = (
    "a process that reads the corpus ahead died; most often the machine ran out of memory. Run the same command again "
    "to go on from the newest checkpoint, with stream.workers = 0 if it happens again"
)


def tells_of_dead_worker(error: RuntimeError) -> bool:
    """Whether torch says with it that a process of a loader died; it does so wherever training happens to be."""
    return str(error).startswith("DataLoader worker (pid")


class WaitingLoader(DataLoader):
    """A loader that knows how long training has waited for it.

    Attributes:
        waiting_seconds: time between a batch being asked for and its being there, over all batches, and the time that
            it takes to start reading.
    """

    waiting_seconds = 0.0

    def __iter__(self) -> Any:
        """Batches, timed.

        Raises:
            WorkerError: a process that reads ahead died; see also :func:`tells_of_dead_worker`.
        """
        asked = time.perf_counter()
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (OSError, EOFError) as error:
                # It died between announcing a batch and handing it over: nobody answers at its socket.
                workers = {worker.sentinel: worker for worker in getattr(batches, "_workers", ())}
                dead = wait(workers, timeout=5) if workers else []
                if not dead:
                    raise
                for sentinel in dead:
                    # Else torch's handler of SIGCHLD raises once more, wherever the program then is.
                    workers[sentinel].join(5)
                raise WorkerError(WORKER_DIED) from error
            finally:
                self.waiting_seconds += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()
