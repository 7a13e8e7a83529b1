"""Two audits beside each other: figures that both have, answers that changed, and what only one has."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memsinks.audit.findings import Figure
from memsinks.errors import InputError
from memsinks.report.audit.content import AuditContent
from memsinks.report.audit.shown import without_paths
from memsinks.report.html import settings

FORMAT, FORMAT_VERSION = "memsinks-audit-comparison", 1
Intervals = Literal["apart", "overlap", "no interval"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A figure of both audits.

    Attributes:
        section, measure, condition, texts, unit: of both.
        a, b: values; None where it could not be measured.
        a_low, a_high, b_low, b_high: 95 % intervals, if there are any.
        difference: b less a; None where one is None.
        intervals: whether the two overlap; those that are apart tell a difference, those that overlap leave it open.
    """

    section: str
    measure: str
    condition: str
    texts: str
    unit: str
    a: float | None
    b: float | None
    a_low: float | None
    a_high: float | None
    b_low: float | None
    b_high: float | None
    difference: float | None
    intervals: Intervals


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """An answer of both audits; None where one has no such question."""

    key: str
    question: str
    a: str | None
    b: str | None

    @property
    def changed(self) -> bool:
        """Whether both have an answer, and these differ."""
        return None not in (self.a, self.b) and self.a != self.b


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two audits: the model, what was asked, and when."""

    run: str
    asked: str
    time: str
    documents: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two audits.

    Attributes:
        a, b: which.
        same_text: both audited the same documents.
        same_unseen: both compared it with the same documents.
        answers: by question.
        pairs: intervals that are apart first, then in the order of a.
        only_a, only_b: section, measure, condition and texts of figures that one has.
        settings: that differ: name, in a, in b.
    """

    a: Side
    b: Side
    same_text: bool
    same_unseen: bool
    answers: tuple[AnswerPair, ...]
    pairs: tuple[Pair, ...]
    only_a: tuple[tuple[str, str, str, str], ...]
    only_b: tuple[tuple[str, str, str, str], ...]
    settings: tuple[tuple[str, str | None, str | None], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain Python values for :func:`json.dump`."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}


def compare(a: AuditContent, b: AuditContent, *, different_text: bool = False) -> Comparison:
    """Compare two audits.

    Args:
        a: one, for example before a removal.
        b: another.
        different_text: compare audits of different text too.

    Raises:
        InputError: they are of different text, and this was not asked for.
    """
    same_text = a.target.sha256 == b.target.sha256
    if not same_text and not different_text:
        raise InputError(
            f"the audits are of different text: {a.target.asked} ({a.target.documents:,} documents) and "
            f"{b.target.asked} ({b.target.documents:,} documents); their figures differ for that alone. Audit the same "
            "text, or compare them all the same with --different-text"
        )
    ours, theirs = _by_key(a.figures), _by_key(b.figures)
    pairs = [_pair(ours[key], theirs[key]) for key in ours if key in theirs]
    return Comparison(
        a=_side(a),
        b=_side(b),
        same_text=same_text,
        same_unseen=a.unseen.sha256 == b.unseen.sha256,
        answers=_answers(a, b),
        pairs=tuple(sorted(pairs, key=lambda pair: pair.intervals != "apart")),
        only_a=tuple(key[:4] for key in ours if key not in theirs),
        only_b=tuple(key[:4] for key in theirs if key not in ours),
        settings=_settings(a, b),
    )


def _side(audit: AuditContent) -> Side:
    return Side(run=audit.run.name, asked=audit.target.asked, time=audit.time, documents=audit.target.documents)


Key = tuple[str, str, str, str, str, int]


def _by_key(figures: Iterable[Figure]) -> dict[Key, Figure]:
    """A figure that is there twice is compared with its like by number: none is left out."""
    found: dict[Key, Figure] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for f in figures:
        key = (f.section, f.measure, f.condition, f.texts, f.unit)
        found[*key, seen[key]] = f
        seen[key] += 1
    return found


def _pair(a: Figure, b: Figure) -> Pair:
    known = _known(a.value) and _known(b.value)
    return Pair(
        section=a.section,
        measure=a.measure,
        condition=a.condition,
        texts=a.texts,
        unit=a.unit,
        a=a.value,
        b=b.value,
        a_low=a.low,
        a_high=a.high,
        b_low=b.low,
        b_high=b.high,
        difference=b.value - a.value if known and a.value is not None and b.value is not None else None,
        intervals=_intervals(a, b),
    )


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _intervals(a: Figure, b: Figure) -> Intervals:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return "no interval"
    return "apart" if a.high < b.low or b.high < a.low else "overlap"


def _answers(a: AuditContent, b: AuditContent) -> tuple[AnswerPair, ...]:
    ours, theirs = ({v.key: v for v in audit.verdicts} for audit in (a, b))
    return tuple(
        AnswerPair(
            key=key,
            question=(ours.get(key) or theirs[key]).question,
            a=ours[key].answer if key in ours else None,
            b=theirs[key].answer if key in theirs else None,
        )
        for key in dict.fromkeys([*ours, *theirs])
    )


def _settings(a: AuditContent, b: AuditContent) -> tuple[tuple[str, str | None, str | None], ...]:
    ours, theirs = (
        {name: without_paths(value) for name, value in settings({**audit.config, "versions": audit.versions})}
        for audit in (a, b)
    )
    names = dict.fromkeys([*ours, *theirs])
    return tuple((n, ours.get(n), theirs.get(n)) for n in names if ours.get(n) != theirs.get(n))
