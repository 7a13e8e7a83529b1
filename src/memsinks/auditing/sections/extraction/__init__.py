"""Can the text be brought out, word for word or nearly so?"""

from collections.abc import Callable
from functools import partial

import numpy as np

from memsinks.audit.findings import Findings
from memsinks.audit.prompts import ALTERATIONS
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.sections.extraction import approximate, candidates, compression, greedy, prompts
from memsinks.auditing.sections.extraction.texts import SECTION
from memsinks.auditing.task import Cost, Task

DEAR = ("own", "off", "removed", "standard", "reference", "model")
"""Conditions of the measurements that take longest; the controls are measured by the others."""


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Greedy, approximate and other prompts under every condition; best of several and search where it matters most."""
    texts, settings = bench.texts, config.extraction
    lengths = [np.minimum(texts.corpus.lengths[n], config.text.max_length) for n in (texts.target, texts.unseen)]
    read = sum(int(own.sum()) for own in lengths)
    written = len(texts.target) + min(len(texts.unseen), settings.unseen)
    short = settings.prefix + settings.suffix
    other = written * ((settings.places + len(ALTERATIONS)) * short + settings.few + settings.suffix)
    found = []

    def add(name: str, priority: int, cost: Cost, measure: Callable[..., Findings], condition: str) -> None:
        run = partial(measure, condition=condition)
        found.append(Task(section=SECTION, name=name, condition=condition, priority=priority, cost=cost, run=run))

    for condition in bench.conditions:
        add("greedy", 0, Cost(forward=read), greedy.measure, condition)
        near = Cost(forward=written * settings.prefix, generated=written * settings.suffix)
        add("approximate", 1, near, approximate.measure, condition)
        add("prompts", 1, Cost(forward=other), prompts.measure, condition)
        if condition in DEAR:
            tries = written * (settings.beams + settings.samples)
            several = Cost(forward=tries * settings.prefix, generated=tries * settings.suffix)
            add("best-of", 2, several, candidates.measure, condition)
        if condition in DEAR and settings.compression.documents:
            add("compression", 2, compression.cost(settings.compression), compression.measure, condition)
    return found
