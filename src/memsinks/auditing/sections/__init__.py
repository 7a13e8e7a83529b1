"""The families of measurements; each plans its tasks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memsinks.auditing.runner import ordered
from memsinks.auditing.sections import (
    capability,
    extraction,
    facts,
    influence,
    losses,
    membership,
    metrics,
    persistence,
    recovery,
)
from memsinks.auditing.task import Planner, Task
from memsinks.errors import ConfigError

if TYPE_CHECKING:
    from memsinks.auditing.bench import Bench

PLANNERS: dict[str, Planner] = {
    "losses": losses.tasks,
    "extraction": extraction.tasks,
    "membership": membership.tasks,
    "recovery": recovery.tasks,
    "influence": influence.tasks,
    "facts": facts.tasks,
    "persistence": persistence.tasks,
    "capability": capability.tasks,
    "metrics": metrics.tasks,
}
"""By the name of the section, in the order of the report."""


def planned(bench: "Bench", sections: Sequence[str] = ()) -> tuple[Task, ...]:
    """Tasks of some sections, or of all, in the order in which they run."""
    check_sections(sections)
    names = [name for name in PLANNERS if not sections or name in sections]
    return tuple(ordered([task for name in names for task in PLANNERS[name](bench, bench.config)]))


def check_sections(sections: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for the first that there is not."""
    for name in sections:
        if name not in PLANNERS:
            raise ConfigError(f"--sections {name}: choose from {', '.join(PLANNERS)}")
