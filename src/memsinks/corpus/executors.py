"""Where the tasks of a preparation run: in this process, in several of this machine, or under datatrove's executors.

A task writes the same bytes wherever it runs, so the corpus does not depend on the choice.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Protocol

import pyarrow as pa

from memsinks.corpus.stages.job import Job, Task
from memsinks.errors import InputError

SMALL_BYTES = 32 << 20
"""Below this much input more processes cost more time than they save."""


PRELOADED = ("memsinks.corpus.prepare", "pandas")
"""Imported once for all processes of a preparation; Arrow imports pandas, if there is any, when it is given a list."""


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
        workers: processes, this one among them; None takes one for each core, or this process alone for little input.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}; it must be at least 1")

    def warm(self, job: Job) -> None:
        """Begin the process from which others are forked, which takes a moment, if there are to be any."""
        if self._workers(job) > 1 and "forkserver" in multiprocessing.get_all_start_methods():
            from multiprocessing import forkserver

            _context()
            with _one_thread():
                forkserver.ensure_running()

    def run(self, job: Job, stage: str, task: Task, numbers: Sequence[int], done: Callable[[], None]) -> None:
        """Run them in this process, and in others beside it, which take seconds to begin."""
        others = min(len(numbers), self._workers(job)) - 1
        if others < 1:
            for number in numbers:
                task(job, number)
                done()
            return
        with _one_thread(), ProcessPoolExecutor(others, mp_context=_context(), initializer=_begin) as pool:
            try:
                _share_out(pool, others, job, task, deque(numbers), done)
            except BrokenProcessPool as error:
                raise InputError(
                    "a process of the preparation was killed, most likely for want of memory; run the same command "
                    "again with fewer --workers: it goes on with what is finished"
                ) from error
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _workers(self, job: Job) -> int:
        if self.workers is not None:
            return self.workers
        size = sum(piece.bytes for task in job.reading for piece in task)
        if size <= SMALL_BYTES:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context() -> ForkServerContext:
    """Processes that are started afresh: a fork of one with running threads (tokenizers, Arrow) can hang."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _share_out(
    pool: ProcessPoolExecutor, others: int, job: Job, task: Task, pending: deque[int], done: Callable[[], None]
) -> None:
    """Keep the pool busy, and do a task here whenever there is one that it need not have."""
    running: set[Future[None]] = set()
    while pending or running:
        while pending and len(running) < others + 1:  # one waits, so that none of them does
            running.add(pool.submit(task, job, pending.popleft()))
        if pending:
            task(job, pending.popleft())
            done()
        finished, running = wait(running, 0 if pending else None, FIRST_COMPLETED)
        for future in finished:
            future.result()
            done()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes share the cores already; tokenizers need no threads of their own."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _begin() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pa.set_cpu_count(1)
