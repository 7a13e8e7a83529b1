"""Can it be told that the model was trained on the text? Attacks on membership, and a control without a model."""

from functools import partial

from memsinks.auditing.attacks import SECTION, Attacks
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.scored import Compared, Reference
from memsinks.auditing.shadows import Shadows
from memsinks.auditing.task import Cost, Task
from memsinks.auditing.verdicts import DELIVERED
from memsinks.errors import ConfigError

NONE = "none"
"""Condition of what asks no model."""


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """The control; what token probabilities give away, under each condition; dear attacks under the main ones."""
    settings = config.membership
    compared = Compared.of(bench, settings.tolerance)
    few = compared.at_most(settings.dear, config.seed)
    known = _reference(bench, settings.reference)
    shadows = Shadows.open(settings.shadows, bench.texts.corpus) if settings.shadows else None
    attacks = Attacks(compared, few, Reference(known, compared) if known else None, shadows)
    read, dear = compared.tokens(bench), few.tokens(bench)

    def task(name: str, condition: str, priority: int, cost: Cost) -> Task:
        run = partial(getattr(attacks, name), condition=condition)
        return Task(section=SECTION, name=name, condition=condition, priority=priority, cost=cost, run=run)

    found = [task("blind", NONE, 0, Cost())]
    found += [task("likelihood", name, 0, Cost(forward=(2 + bool(known)) * read)) for name in bench.conditions]
    main = _main(bench)
    for name in main:
        found.append(task("gradient", name, 1, Cost(backward=dear)))
        found.append(task("neighbourhood", name, 2, Cost(forward=(1 + settings.neighbours) * dear)))
        if shadows is not None:
            # Shadow models read the texts in the first of these tasks, whichever that is.
            each = 1 + len(shadows.folders) * (name == main[0])
            found.append(task("shadow", name, 1, Cost(forward=each * read)))
    return found


def _main(bench: Bench) -> list[str]:
    """What held the text, what is handed out, and models that are given: no controls."""
    delivered = next((name for name in DELIVERED if name in bench.conditions), "")
    return [n for n in bench.conditions if n == delivered or n not in (*DELIVERED, "placebo", "random")]


def _reference(bench: Bench, asked: str | None) -> str | None:
    if asked is not None and asked not in bench.conditions:
        raise ConfigError(f"membership.reference={asked}: choose from {', '.join(bench.conditions)}")
    return asked or ("reference" if "reference" in bench.conditions else None)
