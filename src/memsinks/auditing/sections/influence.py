"""What a text taught of its source: how much easier other text of the source is than it would be without."""

from functools import partial
from typing import Any

import numpy as np

from memsinks.audit import DocumentLosses
from memsinks.audit.contrast import advantage_difference
from memsinks.audit.findings import Figure, Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REFERENCE
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.task import Cost, Task

SECTION = "influence"
MEASURE = "advantage over the reference on held-out text of the same source, beyond that on other held-out text"
SAME, OTHER = "held out: same source", "held out: other sources"
LEAST = 3
"""Documents of each kind from which a figure decides an answer."""


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """One task for each condition but the reference; one that says why, if it cannot be measured."""
    same, other = _held_out(bench)
    if missing := _missing(bench, same, other):
        first = next(iter(bench.conditions))
        run = partial(_not_measured, condition=first, why=missing)
        return [Task(section=SECTION, name="influence", condition=first, priority=0, cost=Cost(), run=run)]
    read = int(bench.texts.corpus.lengths[np.concatenate([same, other])].sum())
    return [
        Task(
            section=SECTION,
            name="influence",
            condition=name,
            priority=0,
            cost=Cost(forward=2 * read),
            run=partial(_influence, condition=name, same=same, other=other),
        )
        for name in bench.conditions
        if name != REFERENCE
    ]


def _held_out(bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Held-out documents of the target's sources, and of others."""
    texts = bench.texts
    own = {texts.corpus.sources[i] for i in texts.target.tolist()} - {None}
    here, elsewhere = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for source, numbers in texts.validation.items():
        (here if source in own else elsewhere).append(np.setdiff1d(numbers, texts.target))
    return np.concatenate(here), np.concatenate(elsewhere)


def _missing(bench: Bench, same: np.ndarray, other: np.ndarray) -> str:
    if REFERENCE not in bench.conditions:
        return "It needs a model that never saw the source (--against reference=FOLDER)."
    if len(same) < LEAST:
        return f"{len(same)} documents of the same source were held out from training; it needs {LEAST}."
    if len(other) < LEAST:
        return f"{len(other)} documents of other sources were held out from training; it needs {LEAST}."
    return ""


def _not_measured(bench: Bench, *, condition: str, why: str) -> Findings:
    figure = Figure(
        section=SECTION,
        measure=MEASURE,
        condition=condition,
        texts=SAME,
        value=None,
        unit="nats per token",
        note=why,
        question=SECTION,
    )
    return Findings(figures=(figure,))


def _influence(bench: Bench, *, condition: str, same: np.ndarray, other: np.ndarray) -> Findings:
    found = {
        (name, texts): _losses(bench, name, texts, numbers)
        for name in (condition, REFERENCE)
        for texts, numbers in ((SAME, same), (OTHER, other))
    }
    interval = advantage_difference(
        found[condition, SAME], found[REFERENCE, SAME], found[condition, OTHER], found[REFERENCE, OTHER]
    )
    rest: dict[str, Any] = {"section": SECTION, "condition": condition, "unit": "nats per token"}
    figures = [
        Figure.of(
            interval,
            measure=MEASURE,
            texts=SAME,
            number=len(same),
            chance=0.0,
            question=SECTION,
            note=f"Compared with {len(other)} held-out documents of other sources, so that a model that is better in "
            "general does not count. 0 means that nothing of the source is left.",
            **rest,
        )
    ]
    for texts, numbers in ((SAME, same), (OTHER, other)):
        gained = found[REFERENCE, texts].mean - found[condition, texts].mean
        figures.append(
            Figure(measure="advantage over the reference", texts=texts, value=gained, number=len(numbers), **rest)
        )
    return Findings(figures=tuple(figures))


def _losses(bench: Bench, condition: str, texts: str, numbers: np.ndarray) -> DocumentLosses:
    documents = bench.texts.documents(numbers)
    # Where the whole source has one ID, the sinks of the target are those of its held-out text, too.
    owned = all(document.sequence_id in bench.texts.target_ids for document in documents)
    return bench.losses(condition, "target" if owned else texts, documents)
