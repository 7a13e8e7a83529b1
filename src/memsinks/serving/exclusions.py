"""Which IDs must stay off now: those removed from the checkpoint, and those that the ledger denies."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from memsinks.checkpoint.lineage import LINEAGE, Lineage
from memsinks.errors import CheckpointError, LedgerError, MemsinksError
from memsinks.ledger import Ledger

_log = logging.getLogger(__name__)


class Exclusions:
    """Removed and denied IDs, read again every few seconds by a thread of its own.

    What cannot be read, or has not been for three times as long as it should, counts as unknown.

    Args:
        folder: of the checkpoint; a removal that is carried out in it while it is served is noticed.
        removed: sequence IDs that were removed before it was loaded.
        ledger: an SQLite file or an SQLAlchemy URL; None if no deny-list is kept.
        poll_seconds: time between two readings.
        clock: seconds that only go on.
        watch: told all removed IDs after each reading, by a server that takes their sinks out of its memory.
    """

    def __init__(
        self,
        folder: Path,
        removed: Iterable[int],
        ledger: str | Path | None,
        *,
        poll_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        watch: Callable[[frozenset[int]], None] | None = None,
    ) -> None:
        self.problem: str | None = "nothing was read yet"
        """Why the IDs are unknown, for the operator; None if they are known."""
        self._folder, self._place = folder, ledger
        self._removed = frozenset(removed)
        self._had_lineage = (folder / LINEAGE).is_file()
        self._written: tuple[int, int] | None = None
        self._ledger: Ledger | None = None
        self._entries = 0
        self._poll_seconds, self._clock, self._watch = poll_seconds, clock, watch
        self._ids: frozenset[int] = frozenset()
        self._read_at = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def current(self) -> frozenset[int] | None:
        """The IDs; None if they are not known."""
        fresh = self._clock() - self._read_at <= 3 * self._poll_seconds
        return self._ids if self.problem is None and fresh else None

    def refresh(self) -> None:
        """Read both places now."""
        self._read()
        # Nobody may switch on what is taken out.
        if self._watch is not None:
            self._watch(self._removed)

    def _read(self) -> None:
        try:
            self._read_lineage()
            self._ids = self._removed | self._denied()
        except (MemsinksError, OSError) as error:
            if self.problem != str(error):
                _log.warning("no sinks are switched on until this is mended: %s", error)
            self.problem = str(error)
            return
        if self.problem is not None and self._read_at > float("-inf"):
            _log.warning("the excluded IDs can be read again")
        self._read_at = self._clock()
        self.problem = None

    def start(self) -> None:
        """Read once, and go on reading in a thread."""
        self.refresh()
        self._stop.clear()
        self._thread = threading.Thread(target=self._poll, name="memsinks-exclusions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self.refresh()

    def _read_lineage(self) -> None:
        try:
            state = (self._folder / LINEAGE).stat()
        except FileNotFoundError as error:
            if not self._had_lineage:
                return  # an old run, from which nothing was removed yet
            raise CheckpointError(f"{self._folder}: {LINEAGE} is gone; restore the checkpoint") from error
        self._had_lineage = True
        written = (state.st_ino, state.st_mtime_ns)
        if written == self._written:
            return
        lineage = Lineage.read(self._folder)
        found = self._removed | set(() if lineage is None else lineage.removed["sequence_id"].to_pylist())
        if found != self._removed:
            memory = "" if self._watch else "; their sinks are in memory until the server is started again"
            _log.warning("%s: IDs were removed since it was loaded, and stay off%s", self._folder, memory)
        self._removed, self._written = found, written

    def _denied(self) -> frozenset[int]:
        if self._place is None:
            return frozenset()
        if self._ledger is None:
            self._ledger = Ledger.open(self._place)
        # A file that is not there reads as an empty ledger, and one that was put back as an older one.
        if not self._ledger.exists():
            raise LedgerError(f"{self._ledger.place}: there is no ledger")
        entries = self._ledger.head().seq
        if entries < self._entries:
            raise LedgerError(f"{self._ledger.place}: had {self._entries} entries and now has {entries}; restore it")
        denied = frozenset(self._ledger.denied())
        self._entries = entries
        return denied
