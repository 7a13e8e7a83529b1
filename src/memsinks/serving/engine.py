"""Completions that arrive together are generated together, in one thread."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from memsinks.errors import ConfigError
from memsinks.serving.generation import Generation

_log = logging.getLogger(__name__)


class Engine:
    """A queue of completions, and the thread that generates them batch by batch.

    Args:
        decode: runs the completions of a batch to their ends.
        batch_size: most completions of a batch.
        queue_size: most completions that wait.
        wait_seconds: how long the first completion of a batch waits for others.

    Raises:
        ConfigError: an impossible size.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[Generation]], None],
        *,
        batch_size: int = 16,
        queue_size: int = 64,
        wait_seconds: float = 0.005,
    ) -> None:
        if batch_size < 1 or queue_size < batch_size or wait_seconds < 0:
            raise ConfigError(
                f"batches of {batch_size}, a queue of {queue_size} and a wait of {wait_seconds} s: a batch has at "
                "least one completion, the queue holds at least a batch, and a wait is not negative"
            )
        self.batch_size = batch_size
        self._decode, self._queue_size, self._wait_seconds = decode, queue_size, wait_seconds
        self._queue: deque[Generation] = deque()
        self._running: list[Generation] = []
        self._chores: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def submit(self, generations: Sequence[Generation]) -> bool:
        """Queue completions, all or none; False if the queue has no room for them."""
        with self._changed:
            if self._stopping or self._waiting() + len(generations) > self._queue_size:
                return False
            self._queue.extend(generations)
            self._changed.notify()
            return True

    def between(self, chore: Callable[[], None]) -> None:
        """Have the engine's thread call something once, after the batch that runs and before the next one."""
        with self._changed:
            self._chores.append(chore)
            self._changed.notify()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="memsinks-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cancel what runs and waits, and end the thread."""
        with self._changed:
            self._stopping = True
            left = [*self._running, *self._queue]
            for generation in left:
                generation.cancelled = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        for generation in left:
            generation.finish("failed")

    def _serve(self) -> None:
        while (batch := self._next()) is not None:
            self._do_chores()
            try:
                if batch:
                    self._decode(batch)
            except Exception:
                # The traceback names no text, and the next batch may be all right.
                _log.exception("a batch of %d completions failed", len(batch))
                for generation in batch:
                    generation.finish("failed")

    def _do_chores(self) -> None:
        while self._chores:
            try:
                self._chores.popleft()()
            except Exception:
                _log.exception("what was to be done between two batches failed")

    def _next(self) -> list[Generation] | None:
        """The next batch, of those that somebody waits for, empty if there are only chores; None at the end."""
        with self._changed:
            self._running = []
            while not self._waiting() and not self._stopping and not self._chores:
                self._changed.wait()
            until = time.monotonic() + self._wait_seconds
            while self._queue and len(self._queue) < self.batch_size and not self._stopping:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._stopping:
                return None
            while self._waiting() and len(self._running) < self.batch_size:
                self._running.append(self._queue.popleft())
            return self._running

    def _waiting(self) -> int:
        """Completions in the queue, without those that nobody waits for any more."""
        self._queue = deque(waiting for waiting in self._queue if not waiting.cancelled)
        return len(self._queue)
