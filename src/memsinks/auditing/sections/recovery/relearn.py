"""Relearning: from half of the text, how soon is that half learned, and does the other half come with it?

Text that was removed has to be learned from nothing; text that is only hidden comes back with its neighbours (Lynch et
al. 2024, arXiv 2402.16835; Deeb and Roger 2024, arXiv 2410.08827).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from memsinks.audit.controls import Contrast, control_sets
from memsinks.audit.findings import Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REFERENCE
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.relearning import checkpoints, parted, relearning
from memsinks.auditing.sections.recovery.common import (
    SECTION,
    attacked,
    clipped,
    contrast_figure,
    plain_for,
    target_of,
    tokens_of,
    unseen_of,
)
from memsinks.auditing.sections.recovery.returns import (
    REST,
    TRAINED,
    Documents,
    head_start,
    plots,
    quicker,
    returned,
    until,
)
from memsinks.auditing.task import Cost, Task
from memsinks.errors import InputError


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Two for each condition: from half of the text, and from related text."""
    settings, size = config.recovery, min(config.recovery.documents, len(bench.texts.target))
    read = tokens_of(bench, bench.texts.target[:size])
    # A step sees at most so many documents, and half of them are trained.
    step = read / size * min(settings.rows, max(1, size / 2))
    trained, watched = round(settings.steps * step), len(checkpoints(settings.steps)) * read
    sets = 1 + settings.controls
    found = []
    for name in attacked(bench):
        found.append(
            Task(
                section=SECTION,
                name="relearning",
                condition=name,
                priority=1,
                cost=Cost(forward=sets * watched, backward=sets * trained),
                run=partial(_relearn, condition=name),
            )
        )
        found.append(
            Task(
                section=SECTION,
                name="related",
                condition=name,
                priority=2,
                cost=Cost(forward=2 * sets * read, backward=3 * trained),
                run=partial(_related, condition=name),
            )
        )
    return found


def _sets(bench: Bench, more: int = 0) -> tuple[Documents, list[Documents], list[Documents]]:
    """The target's documents, control sets of as many, and ``more`` further sets."""
    config, unseen = bench.config.recovery, unseen_of(bench)
    target = target_of(bench)
    count = config.controls + more
    size = min(config.documents, len(target), len(unseen) // count)
    if not size:
        raise InputError(
            f"{len(unseen)} unseen documents do not make {count} control sets; hold out more text, or lower "
            "--recovery.controls"
        )
    sets = control_sets(unseen, size, count, seed=bench.config.seed)
    return target[:size], sets[: config.controls], sets[config.controls :]


def _relearn(bench: Bench, *, condition: str) -> Findings:
    subject, config = bench.opened(condition), bench.config.recovery
    target, controls, _ = _sets(bench)
    models = {"target": plain_for(subject, "target"), "unseen": plain_for(subject, "unseen")}
    run = partial(
        relearning,
        steps=config.steps,
        rate=config.rate,
        rows=config.rows,
        max_length=bench.config.text.max_length,
        seed=bench.config.seed,
    )
    curves = []
    for model, documents in [(models["target"], target), *((models["unseen"], control) for control in controls)]:
        trained, other = parted(documents, bench.config.text.max_length)
        curves.append(run(model, trained, {TRAINED: trained, REST: other}))
    rest: dict[str, Any] = {"condition": condition, "number": len(target)}
    figures = [
        *until(curves, config.relearned, {"condition": condition}),
        *(head_start(curves, half, rest) for half in (TRAINED, REST)),
        quicker(curves, rest),
        returned(
            curves,
            target,
            controls,
            rest,
            max_length=bench.config.text.max_length,
            reference=REFERENCE in bench.conditions,
        ),
    ]
    lines = [line for half in (TRAINED, REST) for line in plots(curves, half, condition)]
    return Findings(figures=tuple(figures), curves=tuple(lines))


def related_text(bench: Bench) -> tuple[str, np.ndarray]:
    """What is nearest to the target and neither it nor a control, and how to call it; empty if that is unseen text."""
    texts = bench.texts
    sources = {texts.corpus.sources[i] or "" for i in texts.target.tolist()}
    for kind, sets in (("held-out text", texts.validation), ("surviving text", texts.survivors)):
        numbers = [found for source, found in sets.items() if source in sources]
        left = np.setdiff1d(np.concatenate(numbers), texts.unseen) if numbers else texts.target[:0]
        if len(left):
            return f"{kind} of the same sources", left
    return "unseen text", texts.target[:0]


def _related(bench: Bench, *, condition: str) -> Findings:
    subject, config = bench.opened(condition), bench.config.recovery
    what, numbers = related_text(bench)
    target, controls, further = _sets(bench, 0 if len(numbers) else 1)
    max_length = bench.config.text.max_length
    trained = clipped(bench.texts.documents(numbers), max_length)[: len(target)] if len(numbers) else further[0]
    watched = {"target": target} | {f"control {n}": control for n, control in enumerate(controls)}

    def run(texts: str, names: Sequence[str]) -> dict[str, float]:
        points = relearning(
            plain_for(subject, texts),
            trained,
            {name: watched[name] for name in names},
            steps=config.steps,
            rate=config.rate,
            rows=config.rows,
            max_length=max_length,
            seed=bench.config.seed,
            measured=(0, config.steps),
        )
        return {name: points[0].losses[name].mean - points[-1].losses[name].mean for name in names}

    if subject.mode_for("target") == subject.mode_for("unseen"):
        falls = run("target", list(watched))
    else:
        falls = run("target", ["target"]) | run("unseen", [name for name in watched if name != "target"])
    contrast = Contrast(falls.pop("target"), tuple(falls.values()))
    says = f"Fall of the target's loss by training on {what}, beyond the same fall of control text."
    figure = contrast_figure(
        contrast, says, condition=condition, measure="return from related text", number=len(target)
    )
    return Findings(figures=(figure,))
