"""The folder of a preparation under way: what each finished task wrote, under a lock, so that a killed one goes on."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from memsinks.corpus import cache
from memsinks.corpus.files import appearing, explain
from memsinks.corpus.storage import Place
from memsinks.errors import InputError

FORMAT_VERSION = 2
_JOB = "job.json"
LOGS = "logs"
"""Folder of what executors of other machines log."""


class Work:
    """Files of tasks, by stage and number; each task's folder appears whole or not at all.

    Attributes:
        path: the folder, beside the corpus that is being made; in the cache if that goes to a URL.
        output: the corpus.
    """

    def __init__(self, output: Place) -> None:
        self.output = output
        if isinstance(output, Path):
            self.path = output.parent.resolve() / f".{output.name}.preparing"
        else:
            self.path = cache.preparing(output)
        # What is full or cannot be written is never the URL, where nothing goes before all is done.
        self._blamed = output if isinstance(output, Path) else self.path
        self._removed = self.path.with_name(f"{self.path.name}.removed")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other preparations of the same corpus out.

        Raises:
            InputError: another process holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / "lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"{self.output}: another process is preparing it; wait for it, or stop it") from error
        except OSError as error:
            raise InputError(explain(self._blamed, error)) from error
        shutil.rmtree(self._removed, ignore_errors=True)
        try:
            yield
        finally:
            lock.release()

    def begin(self, job: dict[str, Any]) -> None:
        """Start, or go on with what an earlier process left.

        Raises:
            InputError: it was left by a preparation with other settings.
        """
        file = self.path / _JOB
        job = json.loads(json.dumps({"format_version": FORMAT_VERSION, **job}))
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            if changed := [key for key in job if found.get(key) != job[key]]:
                raise InputError(
                    f"{self.path}: left by an unfinished preparation with other {', '.join(changed)}; go on with the "
                    "same settings and inputs, or remove this folder to start anew"
                )
            return
        temporary = file.with_suffix(".partial")
        temporary.write_text(json.dumps(job, ensure_ascii=False, indent=1), encoding="utf-8")
        temporary.replace(file)

    def folder(self, stage: str, task: int) -> Path:
        """Where a task's files are."""
        return self.path / stage / f"{task:05d}"

    def is_done(self, stage: str, task: int) -> bool:
        """Whether a task is finished."""
        return self.folder(stage, task).is_dir()

    @contextmanager
    def task(self, stage: str, task: int) -> Iterator[Path]:
        """A folder that takes its place when the block ends well, and else is removed.

        Raises:
            InputError: it cannot be written; a full disk is named as such.
        """
        with appearing(self.folder(stage, task), self._blamed) as folder:
            yield folder

    def remove(self) -> None:
        """Forget everything, at once: what is half removed must not be taken for what a stopped preparation left."""
        with contextlib.suppress(OSError):
            self.path.replace(self._removed)
        for folder in (self._removed, self.path):
            shutil.rmtree(folder, ignore_errors=True)
