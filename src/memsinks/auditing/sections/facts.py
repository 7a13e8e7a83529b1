"""Facts that only the audited text states: cloze items on its names and rare words."""

from dataclasses import replace
from functools import partial

import numpy as np

from memsinks.audit import DocumentLosses, bootstrap, wilson
from memsinks.audit.cloze import ClozeItem, completed, ranks
from memsinks.audit.findings import Figure, Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.items import ClozeSet
from memsinks.auditing.task import Cost, Task

SECTION = "facts"
_WORD_TOKENS, _PER_DOCUMENT = 3, 1.5
"""Expected of a word, and of a kind and form in a document: for the estimate of costs."""


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """One task for each condition; the items are found when the first one runs, and shared."""
    cloze = ClozeSet(bench.texts, config.facts, config.seed)
    documents = (len(bench.texts.target), len(bench.texts.unseen))
    items = 4 * sum(min(config.facts.items, _PER_DOCUMENT * count) for count in documents)
    read = int(items * config.facts.choices * (config.facts.context + _WORD_TOKENS))
    return [
        Task(
            section=SECTION,
            name="cloze",
            condition=name,
            priority=1,
            cost=Cost(forward=read),
            run=partial(_facts, condition=name, cloze=cloze),
        )
        for name in bench.conditions
    ]


def _facts(bench: Bench, *, condition: str, cloze: ClozeSet) -> Findings:
    figures: list[Figure] = []
    for (measure, texts), items in cloze.items.items():
        if items:
            losses = bench.losses(condition, texts, completed(_fitting(items, bench.config.text.max_length)))
            found = ranks(losses, bench.config.facts.choices)
            figures += _figures(bench, measure, condition, texts, items, found)
        else:
            figures.append(_none(bench, measure, condition, texts))
    return Findings(figures=tuple(figures))


def _fitting(items: list[ClozeItem], max_length: int) -> list[ClozeItem]:
    """Contexts cut at their front, so that no candidate is read in a chunk without its context."""
    return [replace(i, context=i.context[-max(1, max_length - i.candidates.shape[1]) :]) for i in items]


def _figures(
    bench: Bench, measure: str, condition: str, texts: str, items: list[ClozeItem], found: np.ndarray
) -> list[Figure]:
    choices = bench.config.facts.choices
    note = (
        f"How often the right word is the likeliest of {choices} of its kind and length. Compared with unseen text, "
        "whose words are guessed from their context alone."
    )
    rest = {"section": SECTION, "condition": condition, "texts": texts, "number": len(items)}
    figures = [
        Figure.of(
            wilson(int((found == 1).sum()), len(items)),
            measure=measure,
            unit="rate",
            chance=1 / choices,
            note=note,
            question=SECTION,
            **rest,
        )
    ]
    names = tuple(dict.fromkeys(item.document for item in items))
    if len(names) > 1:
        # Ranks of one document are drawn together: they are not independent.
        of_document = [[rank for item, rank in zip(items, found, strict=True) if item.document == n] for n in names]
        sums, counts = np.array([sum(r) for r in of_document], dtype=float), np.array([len(r) for r in of_document])
        interval = bootstrap(lambda mean: mean, DocumentLosses(names, sums, counts), seed=bench.config.seed)
        what = f"mean rank: {measure}"
        figures.append(Figure.of(interval, measure=what, unit="rank", chance=(choices + 1) / 2, **rest))
    return figures


def _none(bench: Bench, measure: str, condition: str, texts: str) -> Figure:
    return Figure(
        section=SECTION,
        measure=measure,
        condition=condition,
        texts=texts,
        value=None,
        unit="rate",
        chance=1 / bench.config.facts.choices,
        note="No such place is in these texts.",
    )
