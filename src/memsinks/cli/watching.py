"""A bar and a log of an audit."""

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from memsinks.auditing.runner import Done
    from memsinks.auditing.task import Task

LOG = "audit.log"


class Watching:
    """A :class:`~memsinks.auditing.runner.Watch` that draws a bar, in units of expected seconds, and writes a log.

    Args:
        seconds: expected of all tasks.
        file: of the log, which is added to.
        console: to draw on.
    """

    def __init__(self, seconds: float, file: Path, console: Console) -> None:
        self._log = file.open("a", encoding="utf-8")
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._bar = self._progress.add_task("", total=seconds)

    def __enter__(self) -> Self:
        self._progress.start()
        self._line("started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._line("done" if kind is None else f"stopped: {kind.__name__}")
        self._progress.stop()
        self._log.close()

    def starts(self, task: "Task", seconds: float) -> None:
        """A task is about to run."""
        self._progress.update(self._bar, description=f"{task.section}: {task.name} ({task.condition})")

    def ends(self, done: "Done", seconds: float) -> None:
        """A task ended."""
        self._progress.advance(self._bar, seconds)
        self._line(f"{done.task}: " + (f"left out: {done.why}" if done.findings is None else f"{done.seconds:.1f} s"))

    def _line(self, text: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._log.flush()
