"""What relearning shows: figures and curves of a target beside control sets that were relearned in the same way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.audit.controls import Contrast
from memsinks.audit.findings import Curve, Figure
from memsinks.audit.statistics import student_quantile
from memsinks.auditing.relearning import Point, parted, reached
from memsinks.auditing.sections.recovery.common import SECTION, contrast_figure

TRAINED, REST = "trained half", "other half"
KNOWN = 3.0
"""Standard deviations of single unseen documents by which a set's mean loss must lie below theirs for the text to count
as openly known."""
Documents = list[TokenizedDocument]


def until(curves: list[list[Point]], share: float, rest: dict[str, Any]) -> list[Figure]:
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
                Figure(
                    section=SECTION,
                    measure=measure,
                    texts=texts,
                    value=value,
                    unit=unit,
                    number=len(chosen),
                    note=note,
                    **rest,
                )
            )
    return found


def head_start(curves: list[list[Point]], half: str, rest: dict[str, Any]) -> Figure:
    """How far the target's loss lies below that of control text after the last step."""
    what = (
        f"Loss of control text less that of the target after {curves[0][-1].step} steps on as many documents; text "
        "that is easier by itself has one too."
    )
    contrast = _contrast(curves, lambda points: -points[-1].losses[half].mean)
    return contrast_figure(contrast, what, measure=f"head start, {half}", **rest)


def quicker(curves: list[list[Point]], rest: dict[str, Any]) -> Figure:
    """How much more the target's loss falls on what is trained than that of control text."""
    what = "Fall of the loss of the text that is trained, beyond the same fall for control text."
    contrast = _contrast(curves, partial(_fall, TRAINED))
    return contrast_figure(contrast, what, measure=f"return of the {TRAINED}", question="returns", **rest)


def returned(
    curves: list[list[Point]],
    target: Documents,
    controls: Sequence[Documents],
    rest: dict[str, Any],
    *,
    max_length: int,
    reference: bool,
) -> Figure:
    """How much more the rest of the target came back than the rest of control text: what is only hidden comes with it.

    Args:
        curves: of the target, then of each control set.
        target, controls: their documents.
        rest: of the figure.
        max_length: tokens of a document that are used.
        reference: the audit has a model that never saw the text.
    """
    known = _known(curves)
    contrast = _contrast(curves, partial(_fall, REST))
    contrast = replace(contrast, value=contrast.value + known)
    alike = _alike(target, controls, max_length)
    compared = reference or not alike
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
    question = "returns" if compared else ""
    return contrast_figure(contrast, what, measure=f"return of the {REST}", question=question, **rest)


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


def plots(curves: list[list[Point]], half: str, condition: str) -> list[Curve]:
    """Loss against tokens trained: the target's, and the controls' mean with the range that one more would lie in."""
    losses = np.array([[point.losses[half].mean for point in points] for points in curves])
    tokens = np.array([[point.tokens for point in points] for points in curves], dtype=float)
    rest: dict[str, Any] = {
        "section": SECTION,
        "measure": f"relearning, {half}",
        "condition": condition,
        "x_label": "tokens trained",
        "y_label": "loss, nats per token",
    }
    controls, count = losses[1:], len(losses) - 1
    spread = controls.std(0, ddof=1) * (1 + 1 / count) ** 0.5 * student_quantile(0.975, count - 1)
    centre = controls.mean(0)
    return [
        Curve(texts="target", x=_row(tokens[0]), y=_row(losses[0]), **rest),
        Curve(
            texts="unseen",
            x=_row(tokens[1:].mean(0)),
            y=_row(centre),
            low=_row(centre - spread),
            high=_row(centre + spread),
            **rest,
        ),
    ]


def _row(values: np.ndarray) -> tuple[float, ...]:
    return tuple(map(float, values))
