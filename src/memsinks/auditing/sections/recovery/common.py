"""What the attacks of recovery share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument, wilson
from memsinks.audit.controls import Contrast
from memsinks.audit.findings import Figure
from memsinks.audit.reading import ForcedReading
from memsinks.audit.statistics import Interval, student_quantile
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REMOVED, Opened
from memsinks.errors import InputError

SECTION = "recovery"
_CONTROLS = ("placebo", "random")


def attacked(bench: Bench) -> list[str]:
    """Conditions on which attacks of weights are run.

    The controls are left out, and ``off`` where ``removed`` is there: without its rows a removed text has the same
    stock model, weight for weight.
    """
    left_out = (*_CONTROLS, "off") if REMOVED in bench.conditions else _CONTROLS
    return [name for name in bench.conditions if name not in left_out]


def plain_for(subject: Opened, texts: str) -> Any:
    """A stock model as :meth:`~memsinks.auditing.conditions.Opened.plain`, in the mode that ``texts`` are read in."""
    return replace(subject, mode=subject.mode_for(texts)).plain()


def clipped(documents: Sequence[TokenizedDocument], max_length: int) -> list[TokenizedDocument]:
    """The documents' first ``max_length`` tokens; those of fewer than 4 tokens are left out."""
    return [TokenizedDocument(d.name, d.tokens[:max_length], d.sequence_id) for d in documents if len(d.tokens) >= 4]


def target_of(bench: Bench) -> list[TokenizedDocument]:
    """The target, clipped."""
    found = clipped(bench.texts.documents(bench.texts.target), bench.config.text.max_length)
    if not found:
        raise InputError("every document of the target has fewer than 4 tokens; there is nothing to recover")
    return found


def unseen_of(bench: Bench, most: int | None = None) -> list[TokenizedDocument]:
    """Unseen text, clipped; ``most`` of it, drawn at random."""
    found = clipped(bench.texts.documents(bench.texts.unseen), bench.config.text.max_length)
    if most is None or len(found) <= most:
        return found
    drawn = np.random.default_rng(bench.config.seed).permutation(len(found))[:most]
    return [found[i] for i in sorted(drawn)]


def tokens_of(bench: Bench, numbers: np.ndarray) -> int:
    """How many are read of documents of the corpus."""
    return int(np.minimum(bench.texts.corpus.lengths[numbers], bench.config.text.max_length).sum())


def mean_figure(values: np.ndarray, **rest: Any) -> Figure:
    """Mean over documents of a value in nats per token, with Student's interval; of a single document without."""
    rest = {"section": SECTION, "number": len(values), "unit": "nats per token", **rest}
    mean = float(values.mean())
    if len(values) < 2:
        return Figure(value=mean, **rest)
    half = student_quantile(0.975, len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5
    return Figure(value=mean, low=mean - half, high=mean + half, **rest)


def rate_figure(reading: ForcedReading, **rest: Any) -> Figure:
    """The share of documents whose passage is reproduced word for word."""
    tried = int(reading.tried.sum())
    if not tried:
        rest = {**rest, "note": "No document is long enough for the prefix and the passage."}
        return Figure(section=SECTION, value=None, unit="rate", **rest)
    return Figure.of(wilson(int(reading.exact.sum()), tried), section=SECTION, number=tried, unit="rate", **rest)


def difference(target: np.ndarray, control: np.ndarray) -> Interval:
    """Mean of the target's documents above that of the control's, and its interval.

    The spread is that of the control's documents, for both: a target has often too few documents to tell its own.
    """
    if len(control) < 2:
        raise InputError(f"{len(control)} unseen document(s): a spread needs at least 2; give more held-out text")
    value = float(target.mean() - control.mean())
    deviation = float(control.std(ddof=1)) * (1 / len(target) + 1 / len(control)) ** 0.5
    half = student_quantile(0.975, len(control) - 1) * deviation
    return Interval(value, value - half, value + half, 0.95)


def contrast_figure(contrast: Contrast, what: str, **rest: Any) -> Figure:
    """How far the target lies above its controls, in nats per token unless ``rest`` says otherwise.

    Args:
        contrast: of the target.
        what: the figure is, in a sentence or more; where the target lies among its controls is added.
        rest: see :class:`~memsinks.audit.findings.Figure`.
    """
    place = (
        f"The target exceeds {contrast.above} of {len(contrast.controls)} control sets of unseen text "
        f"(z = {contrast.z:.1f})."
    )
    settled = {
        "section": SECTION,
        "texts": "target",
        "unit": "nats per token",
        "chance": 0.0,
        "note": f"{what} {place}",
    }
    return Figure.of(contrast.interval(), **{**settled, **rest})
