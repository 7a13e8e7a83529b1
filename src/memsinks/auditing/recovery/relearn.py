"""Relearning: from half of the text, how soon is that half learned, and does the other half come with it?

Text that was removed has to be learned from nothing; text that is only hidden comes back with its neighbours (Lynch et
al. 2024, arXiv 2402.16835; Deeb and Roger 2024, arXiv 2410.08827).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.audit.controls import Contrast, control_sets, student_quantile
from memsinks.audit.findings import Curve, Figure, Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REFERENCE
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.recovery.common import (
    SECTION,
    attacked,
    clipped,
    contrast_note,
    plain_for,
    target_of,
    tokens_of,
    unseen_of,
)
from memsinks.auditing.relearning import Point, checkpoints, parted, reached, relearning
from memsinks.auditing.task import Cost, Task
from memsinks.errors import InputError

TRAINED, REST = "trained half", "other half"
KNOWN = 3.0
"""Standard deviations of single unseen documents by which a set's mean loss must lie below theirs for the text to count
as openly known."""
Documents = list[TokenizedDocument]


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
                cost=Cost(forward=sets * watched, backward=2 * trained),
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
        trained, rest = parted(documents, bench.config.text.max_length)
        curves.append(run(model, trained, {TRAINED: trained, REST: rest}))
    rest_of: dict[str, Any] = {"section": SECTION, "condition": condition}
    figures = [
        *_until(curves, config.relearned, rest_of),
        *(_head_start(curves, half, config.steps, len(target), rest_of) for half in (TRAINED, REST)),
        _quicker(curves, len(target), rest_of),
        _return(curves, target, controls, bench, rest_of),
    ]
    plots = tuple(curve for half in (TRAINED, REST) for curve in _plots(curves, f"relearning, {half}", half, rest_of))
    return Findings(figures=tuple(figures), curves=plots)


def _until(curves: list[list[Point]], share: float, rest: dict[str, Any]) -> list[Figure]:
    """Steps and tokens until the trained half is relearned: of the target, and on average of the controls."""
    found, last = [], curves[0][-1].step
    threshold = share * float(np.mean([points[0].losses[TRAINED].mean for points in curves[1:]]))
    times = [reached(points, TRAINED, threshold) for points in curves]
    for texts, chosen in (("target", times[:1]), ("unseen", times[1:])):
        done = [time for time in chosen if time is not None]
        whole = len(done) == len(chosen)
        for place, unit in enumerate(("steps", "tokens")):
            value = float(np.mean([time[place] for time in done])) if whole else None
            note = (
                f"{len(done)} of {len(chosen)} sets reach a loss of {threshold:.2f} nats per token, {share:.0%} of "
                f"what unseen text has before training, within {last} steps."
            )
            measure = f"{unit} until the {TRAINED} is relearned"
            found.append(
                Figure(measure=measure, texts=texts, value=value, unit=unit, number=len(chosen), note=note, **rest)
            )
    return found


def _head_start(curves: list[list[Point]], half: str, steps: int, documents: int, rest: dict[str, Any]) -> Figure:
    """How far the target's loss lies below that of control text after the last step."""
    contrast = _contrast(curves, lambda points: -points[-1].losses[half].mean)
    what = (
        f"Loss of control text less that of the target after {steps} steps on as many documents; text that is easier "
        "by itself has one too."
    )
    return Figure.of(
        contrast.interval(),
        measure=f"head start, {half}",
        texts="target",
        unit="nats per token",
        number=documents,
        chance=0.0,
        note=contrast_note(contrast, what),
        **rest,
    )


def _quicker(curves: list[list[Point]], documents: int, rest: dict[str, Any]) -> Figure:
    """How much more the target's loss falls on what is trained than that of control text."""
    contrast = _contrast(curves, partial(_fall, TRAINED))
    what = "Fall of the loss of the text that is trained, beyond the same fall for control text."
    return Figure.of(
        contrast.interval(),
        measure=f"return of the {TRAINED}",
        texts="target",
        unit="nats per token",
        number=documents,
        chance=0.0,
        note=contrast_note(contrast, what),
        **rest,
    )


def _return(
    curves: list[list[Point]], target: Documents, controls: Sequence[Documents], bench: Bench, rest: dict[str, Any]
) -> Figure:
    """How much more the rest of the target came back than the rest of control text, which is what decides."""
    known = _known(curves)
    contrast = _contrast(curves, partial(_fall, REST))
    contrast = replace(contrast, value=contrast.value + known)
    alike = _alike(target, controls, bench.config.text.max_length)
    compared = REFERENCE in bench.conditions or not alike
    what = (
        "Fall of the loss of text that was not trained, by training its neighbours, beyond the same fall for control "
        "text."
    )
    if known:
        what += f" The {known:.2f} nats per token by which the text is openly known before are counted in."
    if alike:
        what += " The target's halves have more words in common than those of control sets, which helps any model."
        if not compared:
            what += " Without a model that never saw the text (--against reference=FOLDER) it decides nothing."
    return Figure.of(
        contrast.interval(),
        measure=f"return of the {REST}",
        texts="target",
        unit="nats per token",
        number=len(target),
        chance=0.0,
        note=contrast_note(contrast, what),
        question="returns" if compared else "",
        **rest,
    )


def _fall(half: str, points: list[Point]) -> float:
    return points[0].losses[half].mean - points[-1].losses[half].mean


def _contrast(curves: list[list[Point]], of: Callable[[list[Point]], float]) -> Contrast:
    values = [of(points) for points in curves]
    return Contrast(values[0], tuple(values[1:]))


def _known(curves: list[list[Point]]) -> float:
    """By how much the rest of the target is known before any training, beyond what documents differ by themselves.

    Text that is openly there cannot come back; it must not pass for text that does not. The allowance is so large that
    it is 0 for text that was never trained, unless it is of quite another kind.
    """
    unseen = np.concatenate([points[0].losses[REST].per_document for points in curves[1:]])
    ahead = float(unseen.mean()) - curves[0][0].losses[REST].mean
    return max(0.0, ahead - KNOWN * float(unseen.std(ddof=1)))


def _alike(target: Documents, controls: Sequence[Documents], max_length: int) -> bool:
    """Whether the target's halves have more in common than those of control sets, without any model."""
    shared = [_shared(*parted(documents, max_length)) for documents in (target, *controls)]
    interval = Contrast(shared[0], tuple(shared[1:])).interval()
    return interval.low > 0


def _shared(trained: Documents, rest: Documents) -> float:
    """The share of the rest's distinct pairs of neighbouring tokens that are in what is trained."""
    seen = {pair for document in trained for pair in _pairs(document.tokens)}
    new = {pair for document in rest for pair in _pairs(document.tokens[document.scored_from - 1 :])}
    return len(new & seen) / max(1, len(new))


def _pairs(tokens: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))


def _plots(curves: list[list[Point]], measure: str, half: str, rest: dict[str, Any]) -> list[Curve]:
    """Loss against tokens trained: the target's, and the controls' mean with the range that one more would lie in."""
    losses = np.array([[point.losses[half].mean for point in points] for points in curves])
    tokens = np.array([[point.tokens for point in points] for points in curves], dtype=float)
    labels: dict[str, Any] = {"x_label": "tokens trained", "y_label": "loss, nats per token"}
    controls, count = losses[1:], len(losses) - 1
    spread = controls.std(0, ddof=1) * (1 + 1 / count) ** 0.5 * student_quantile(0.975, count - 1)
    centre = controls.mean(0)
    return [
        Curve(measure=measure, texts="target", x=_row(tokens[0]), y=_row(losses[0]), **labels, **rest),
        Curve(
            measure=measure,
            texts="unseen",
            x=_row(tokens[1:].mean(0)),
            y=_row(centre),
            low=_row(centre - spread),
            high=_row(centre + spread),
            **labels,
            **rest,
        ),
    ]


def _row(values: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, values))


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
        )
        return {name: points[0].losses[name].mean - points[-1].losses[name].mean for name in names}

    falls = run("target", ["target"]) | run("unseen", [name for name in watched if name != "target"])
    contrast = Contrast(falls.pop("target"), tuple(falls.values()))
    says = f"Fall of the target's loss by training on {what}, beyond the same fall of control text."
    figure = Figure.of(
        contrast.interval(),
        section=SECTION,
        condition=condition,
        measure="return from related text",
        texts="target",
        unit="nats per token",
        number=len(target),
        chance=0.0,
        note=contrast_note(contrast, says),
    )
    return Findings(figures=(figure,))
