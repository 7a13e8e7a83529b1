"""Coarser and thinner weights: does text come back that was hidden by small changes, which rounding takes away?"""

from collections.abc import Callable
from functools import partial
from typing import Any

from memsinks.audit.coarsening import pruned, quantised
from memsinks.audit.findings import Figure, Findings
from memsinks.audit.reading import ForcedReading, forced_reading
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.config_recovery import RecoveryConfig
from memsinks.auditing.sections.recovery.common import (
    SECTION,
    attacked,
    difference,
    mean_figure,
    rate_figure,
    target_of,
    tokens_of,
    unseen_of,
)
from memsinks.auditing.task import Cost, Task
from memsinks.training.run import bf16_pays

QUANTISED = "int"
_NOTE = "Weights take the values that the integers stand for, and are computed with as before."
_FALL = (
    "How much more the loss of the target falls, or how much less it rises, than that of unseen text; the interval is "
    "from the spread of unseen documents."
)


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """One task for each condition."""
    read = tokens_of(bench, bench.texts.target) + tokens_of(bench, bench.texts.unseen[: config.recovery.unseen])
    return [
        Task(
            section=SECTION,
            name="compression",
            condition=name,
            priority=1,
            cost=Cost(forward=read * (1 + len(changes(config.recovery)))),
            run=partial(_compression, condition=name),
        )
        for name in attacked(bench)
    ]


def changes(config: RecoveryConfig) -> dict[str, Callable[[Any], Any]]:
    """What is done to weights, by name."""
    found: dict[str, Callable[[Any], Any]] = {}
    for bits in config.bits:
        group = None if bits == 8 else config.group
        each = "per channel" if group is None else f"groups of {group}"
        found[f"{QUANTISED}{bits}, {each}"] = partial(quantised, bits=bits, group=group)
    for fraction in config.prune:
        found[f"{100 * fraction:g}% pruned"] = partial(pruned, fraction=fraction)
    return found


def _compression(bench: Bench, *, condition: str) -> Findings:
    subject, config = bench.opened(condition), bench.config.recovery
    sets = {"target": target_of(bench), "unseen": unseen_of(bench, config.unseen)}

    def read(model: Any) -> dict[str, ForcedReading]:
        return {
            texts: forced_reading(
                model,
                documents,
                mode=subject.mode_for(texts),
                max_length=bench.config.text.max_length,
                prefix=config.prefix,
                suffix=config.suffix,
                autocast=bf16_pays(),
            )
            for texts, documents in sets.items()
        }

    before, figures = read(subject.model), []
    for change, apply in {"weights as they are": None, **changes(config)}.items():
        after = before if apply is None else read(apply(subject.model))
        quantisation = change.startswith(QUANTISED)
        for texts, reading in after.items():
            rest = {"condition": condition, "texts": texts, "note": _NOTE if quantisation else ""}
            figures.append(mean_figure(reading.losses.per_document, measure=f"loss, {change}", **rest))
            # Pruning and the model as it is are shown and decide nothing: each more that does makes all weaker.
            question = "extractable" if quantisation else ""
            measure = f"{config.suffix} tokens word for word, {change}"
            figures.append(rate_figure(reading, measure=measure, question=question, **rest))
        if apply is not None:
            figures.append(_fall(before, after, condition, change))
    return Findings(figures=tuple(figures))


def _fall(before: dict[str, ForcedReading], after: dict[str, ForcedReading], condition: str, change: str) -> Figure:
    falls = {texts: before[texts].losses.per_document - after[texts].losses.per_document for texts in before}
    return Figure.of(
        difference(falls["target"], falls["unseen"]),
        section=SECTION,
        measure=f"fall of loss beyond unseen text, {change}",
        condition=condition,
        texts="target",
        number=len(falls["target"]),
        unit="nats per token",
        chance=0.0,
        note=_FALL,
    )
