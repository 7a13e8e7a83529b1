"""Carry out the tasks of an audit: each result is kept at once, a stopped audit goes on, a budget is kept to."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from memsinks.audit.findings import Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.speed import Speed
from memsinks.auditing.task import Task
from memsinks.errors import MemsinksError


@dataclass(frozen=True, kw_only=True)
class Done:
    """A task's end.

    Attributes:
        task: its key.
        findings: None if it was left out.
        seconds: it took.
        why: it was left out, for people; else empty.
    """

    task: str
    findings: Findings | None
    seconds: float = 0.0
    why: str = ""

    @property
    def section(self) -> str:
        """Of the task."""
        return self.task.partition(".")[0]


def ordered(tasks: Sequence[Task]) -> list[Task]:
    """By priority, then those of one condition together, so that each model is loaded once for each priority."""
    conditions = list(dict.fromkeys(task.condition for task in tasks))
    return sorted(tasks, key=lambda task: (task.priority, conditions.index(task.condition)))


class Watch(Protocol):
    """Is told what happens."""

    def starts(self, task: Task, seconds: float) -> None:
        """A task is about to run; it will take so long, about."""

    def ends(self, done: Done, seconds: float) -> None:
        """A task ended; it had been expected to take so long."""


def carry_out(
    tasks: Sequence[Task],
    bench: Bench,
    folder: Path,
    *,
    speed: Speed,
    budget: float | None = None,
    watch: Watch | None = None,
) -> list[Done]:
    """Run tasks that have no result in ``folder`` yet.

    A task that cannot be run on these texts or models, and says so by a :class:`~memsinks.errors.MemsinksError`, is
    left out with its reason; the others run.

    Args:
        tasks: of the audit, in order.
        bench: what they work on.
        folder: with a file for each result.
        speed: of the models, for what a task will take; it learns from what tasks took.
        budget: seconds; a task that would end later is left out, whatever its priority, and smaller ones still run.
        watch: is told of each task.

    Returns:
        The end of each task, in their order.
    """
    found, begun = [], time.monotonic()
    for task in tasks:
        done, seconds = _read(folder / f"{task.key}.json"), speed.seconds(task.cost)
        if done is None:
            left = math.inf if budget is None else budget - (time.monotonic() - begun)
            if seconds > left:
                why = f"it would take about {seconds:.0f} s, and {max(0.0, left):.0f} s of the budget were left"
                done = Done(task=task.key, findings=None, why=why)
            else:
                if watch is not None:
                    watch.starts(task, seconds)
                done = _run(task, bench, folder, speed)
        found.append(done)
        if watch is not None:
            watch.ends(done, seconds)
    return found


def _run(task: Task, bench: Bench, folder: Path, speed: Speed) -> Done:
    begun = time.monotonic()
    try:
        findings = task.run(bench)
    except MemsinksError as error:
        return Done(task=task.key, findings=None, seconds=time.monotonic() - begun, why=str(error))
    done = Done(task=task.key, findings=findings, seconds=time.monotonic() - begun)
    speed.learn(task.cost, done.seconds)
    _write(folder / f"{task.key}.json", done)
    return done


def _read(file: Path) -> Done | None:
    """A result; None if there is none, or it cannot be read and is measured again."""
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return Done(task=content["task"], seconds=content["seconds"], findings=Findings.from_json(content["findings"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, done: Done) -> None:
    assert done.findings is not None
    content = {"task": done.task, "seconds": done.seconds, "findings": done.findings.to_json()}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(content, ensure_ascii=False) + "\n", "utf-8")
    part.replace(file)
