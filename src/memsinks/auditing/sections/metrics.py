"""Measures of benchmarks of unlearning, on the audited text and on text that was never trained."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from memsinks.audit import DocumentLosses, bootstrap, greedy_extraction
from memsinks.audit.findings import Figure, Findings
from memsinks.audit.membership import loss, min_k
from memsinks.audit.metrics import (
    auc,
    exact_memorisation,
    extraction_strength,
    forget_quality,
    privacy_leakage,
    probability,
    rouge_l_recall,
)
from memsinks.audit.token_scores import TokenScores
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.scored import SIDES, Compared, Reference, scored
from memsinks.auditing.task import Cost, Task
from memsinks.auditing.texts import FEW
from memsinks.training.run import bf16_pays

SECTION = "metrics"
GIVEN, WRITTEN = 50, 50
"""Tokens that the model is given, and that it writes, for ROUGE-L; half of what it can read where that is less."""
_OF_TOKENS: dict[str, Callable[[TokenScores], float]] = {
    "exact memorisation": lambda s: exact_memorisation(s.tokens, s.predicted),
    "extraction strength": lambda s: extraction_strength(s.tokens, s.predicted),
    "probability": lambda s: probability(s.log_probability),
}


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Two tasks for each condition: one reads, the other lets the model write."""
    compared = Compared.of(bench, config.membership.tolerance)
    few = compared.at_most(config.membership.dear, config.seed)
    reference = Reference("reference", compared) if "reference" in bench.conditions else None
    found = []
    for name in bench.conditions:
        read = partial(_read, condition=name, compared=compared, reference=reference)
        write = partial(_write, condition=name, compared=few)
        cost = Cost(forward=compared.tokens(bench))
        written = Cost(generated=WRITTEN * sum(map(len, few.sides.values())))
        found.append(Task(section=SECTION, name="read", condition=name, priority=1, cost=cost, run=read))
        found.append(Task(section=SECTION, name="written", condition=name, priority=2, cost=written, run=write))
    return found


def _read(bench: Bench, *, condition: str, compared: Compared, reference: Reference | None) -> Findings:
    own = {side: scored(bench, condition, side, bench.texts.documents(n)) for side, n in compared.sides.items()}
    figures = [
        _mean([measure(score) for score in scores], name, condition, side)
        for side, scores in own.items()
        for name, measure in _OF_TOKENS.items()
    ]
    if reference is not None and condition != reference.condition:
        never = {side: reference.scores(bench, side) for side in SIDES}
        figures += _against(own, never, condition, bench.config.membership.min_k)
    return Findings(figures=tuple(figures))


def _against(
    own: dict[str, list[TokenScores]], never: dict[str, list[TokenScores]], condition: str, share: float
) -> list[Figure]:
    """Beside the model that never saw the text."""
    rest: dict[str, Any] = {"section": SECTION, "condition": condition, "texts": "target", "number": len(own["target"])}
    areas = [auc(min_k(scores["target"], share), min_k(scores["unseen"], share)) for scores in (own, never)]
    defined = areas[1] < 1
    return [
        Figure(
            measure="forget quality, of losses",
            value=forget_quality(loss(own["target"]), loss(never["target"])),
            unit="p-value",
            note="Near 0 if losses of the text tell the model from the reference; TOFU takes truth ratios instead.",
            **rest,
        ),
        Figure(
            measure=f"privacy leakage, Min-{100 * share:g} %",
            value=privacy_leakage(*areas) if defined else None,
            unit="ratio",
            note="0 as for the reference; below 0 the text is still told from text that was never trained."
            if defined
            else "Not defined: the reference tells all of the text from text that was never trained.",
            **rest,
        ),
    ]


def _write(bench: Bench, *, condition: str, compared: Compared) -> Findings:
    subject, lengths, figures = bench.opened(condition), bench.texts.corpus.lengths, []
    half = int(subject.model.config.max_position_embeddings) // 2
    given, written = min(GIVEN, half), min(WRITTEN, half)
    name = f"ROUGE-L recall, {given} tokens given"
    for side, numbers in compared.sides.items():
        chosen = numbers[lengths[numbers] >= given + written]
        if not len(chosen):
            figures.append(
                Figure(
                    section=SECTION,
                    measure=name,
                    condition=condition,
                    texts=side,
                    value=None,
                    unit="share",
                    note=f"No document has {given + written} tokens.",
                )
            )
            continue
        found = greedy_extraction(
            subject.model,
            bench.texts.documents(chosen),
            mode=subject.mode_for(side),
            prefix=given,
            suffix=written,
            autocast=bf16_pays(),
        )
        values = [rouge_l_recall(d.expected, d.generated) for d in found.documents]
        figures.append(_mean(values, name, condition, side))
    return Findings(figures=tuple(figures))


def _mean(values: list[float], measure: str, condition: str, texts: str) -> Figure:
    """Mean over documents, with an interval where there are enough to resample."""
    rest: dict[str, Any] = {"section": SECTION, "measure": measure, "condition": condition, "texts": texts}
    count = len(values)
    if count < FEW:
        note = f"Mean of {count} documents, too few for an interval."
        return Figure(value=float(np.mean(values)), number=count, unit="share", note=note, **rest)
    names = tuple(map(str, range(count)))
    sample = DocumentLosses(names, np.array(values), np.ones(count, dtype=np.int64))
    return Figure.of(bootstrap(lambda mean: mean, sample), number=count, unit="share", **rest)
