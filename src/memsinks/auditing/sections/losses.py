"""How easy each text is for each model: nats per token."""

from functools import partial
from typing import Any

from memsinks.audit import bootstrap
from memsinks.audit.documents import in_windows
from memsinks.audit.findings import DocumentValue, Figure, Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.task import Cost, Task
from memsinks.auditing.texts import FEW

SECTION = "losses"


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """One task for each condition."""
    texts = bench.texts
    sets = {
        "target": texts.target,
        "unseen": texts.unseen,
        **{f"survivor: {name}": numbers for name, numbers in texts.survivors.items()},
        **{f"held out: {name}": numbers for name, numbers in texts.validation.items()},
    }
    read = sum(int(texts.corpus.lengths[numbers].sum()) for numbers in sets.values())
    return [
        Task(
            section=SECTION,
            name="loss",
            condition=name,
            priority=0,
            cost=Cost(forward=read),
            run=partial(_losses, condition=name, sets=sets),
        )
        for name in bench.conditions
    ]


def _losses(bench: Bench, *, condition: str, sets: dict) -> Findings:
    figures, values = [], []
    for name, numbers in sets.items():
        documents = bench.texts.documents(numbers)
        # Over a handful of documents there is no interval to speak of; over their windows there is.
        units = documents if len(documents) >= FEW else in_windows(documents, bench.config.text.max_length)
        losses = bench.losses(condition, name, units)
        rest = {"section": SECTION, "measure": "loss", "condition": condition, "texts": name}
        shown: dict[str, Any] = {"number": len(documents), "unit": "nats per token", **rest}
        if len(units) > 1:
            figures.append(Figure.of(bootstrap(lambda mean: mean, losses), **shown))
        else:
            figures.append(Figure(value=losses.mean, note="One short text, so that there is no interval.", **shown))
        if name in ("target", "unseen"):
            whole = losses if units is documents else bench.losses(condition, name, documents)
            values += [
                DocumentValue(document=document, value=float(value), **rest)
                for document, value in zip(whole.names, whole.per_document, strict=True)
            ]
    return Findings(figures=tuple(figures), documents=tuple(values))
