"""Where the tasks of a preparation run: in this process, in several of this machine, or under datatrove's executors.

A task writes the same bytes wherever it runs, so the corpus does not depend on the choice.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol

from memsinks.corpus.stages.job import Job, Task
from memsinks.errors import InputError

SMALL_BYTES = 32 << 20
"""Below this much input more processes cost more time than they save."""


class Executor(Protocol):
    """Runs tasks of a stage."""

    def run(self, job: Job, stage: str, task: Task, numbers: Sequence[int], done: Callable[[], None]) -> None:
        """Run ``task`` for every number, in any order, and call ``done`` after each.

        Raises:
            InputError: of a task; others may have finished, and stay so.
        """


@dataclass(frozen=True)
class Local:
    """This machine.

    Attributes:
        workers: processes; None takes one for each core, or this process alone for little input.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}; it must be at least 1")

    def run(self, job: Job, stage: str, task: Task, numbers: Sequence[int], done: Callable[[], None]) -> None:
        """Run them here, or in a pool of processes."""
        workers = min(len(numbers), self._workers(job))
        if workers <= 1:
            for number in numbers:
                task(job, number)
                done()
            return
        # Started afresh: a fork of a process with running threads (tokenizers, Arrow) can hang.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["memsinks.corpus.prepare"])
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            futures = [pool.submit(task, job, number) for number in numbers]
            try:
                _wait(as_completed(futures), done)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _workers(self, job: Job) -> int:
        if self.workers is not None:
            return self.workers
        size = sum(piece.bytes for task in job.reading for piece in task)
        return len(os.sched_getaffinity(0)) if size > SMALL_BYTES else 1


def _wait(futures: Iterable[object], done: Callable[[], None]) -> None:
    try:
        for future in futures:
            future.result()  # type: ignore[attr-defined]
            done()
    except BrokenProcessPool as error:
        raise InputError(
            "a process of the preparation was killed, most likely for want of memory; run the same command again with "
            "fewer --workers: it goes on with what is finished"
        ) from error


def _one_thread() -> None:
    """Workers share the cores already; their libraries need no threads of their own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import pyarrow as pa

    pa.set_cpu_count(1)
