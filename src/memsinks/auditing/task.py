"""One measurement of an audit, and what it is run with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from memsinks.audit.findings import Findings

if TYPE_CHECKING:
    from memsinks.auditing.bench import Bench
    from memsinks.auditing.config import AuditConfig


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a measurement takes, in tokens that the model reads.

    Attributes:
        forward: read without gradients.
        backward: read with gradients.
        generated: written one at a time with a cache, over all rows of all batches.
    """

    forward: int = 0
    backward: int = 0
    generated: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One measurement under one condition.

    Attributes:
        section: see :class:`~memsinks.audit.findings.Figure`.
        name: of the task among those of its section and condition; letters, digits and dashes.
        condition: of the model it runs on; tasks of one condition run together, so that a model is loaded once.
        priority: a budget is spent on the lowest first: 0 for what every audit needs, 1 for what most readers ask
            next, 2 for what is dear.
        cost: estimated before anything runs.
        run: measures; the bench gives the models and texts.
    """

    section: str
    name: str
    condition: str
    priority: int
    cost: Cost
    run: Callable[["Bench"], Findings]

    @property
    def key(self) -> str:
        """Names the task in an audit, and its file."""
        return f"{self.section}.{self.name}.{self.condition}"


class Planner(Protocol):
    """A section: from what is audited to its tasks."""

    def __call__(self, bench: "Bench", config: "AuditConfig") -> list[Task]:
        """Tasks with their costs; no model is loaded for that."""
