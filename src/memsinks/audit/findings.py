"""What a measurement found, in one shape for every attack: figures, curves, values of documents, examples."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from pydantic import TypeAdapter

from memsinks.audit.statistics import Interval

QUESTIONS = ("extractable", "member", "shift", "returns", "influence", "facts", "persists")
"""What a figure can help to answer: is the text extractable; is it told from text never trained; does the choice of
texts alone tell them apart; does it come back with little training; is the source's influence left; are its facts
known; does what was removed stay away after further training."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of a table.

    Attributes:
        section: family of measurements: ``extraction``, ``membership`` and so on.
        measure: what was measured, with its settings: ``greedy, 50 tokens given``.
        condition: of the model: ``own``, ``off``, ``removed``, ``reference`` and so on.
        texts: set of texts: ``target``, ``unseen`` and so on.
        value: None where it could not be measured; ``note`` says why.
        low, high: 95 % interval, if there is one.
        number: documents, or trials, behind it.
        unit: ``rate``, ``nats per token``, ``AUC``, ``tokens``, ``steps``.
        chance: what somebody gets who knows nothing of the text, where that is a number: 0.5 for an AUC.
        note: what a reader has to know, in a sentence.
        question: that it helps to answer, one of :data:`QUESTIONS`; more means that the model knows more.
    """

    section: str
    measure: str
    condition: str
    texts: str
    value: float | None
    low: float | None = None
    high: float | None = None
    number: int = 0
    unit: str
    chance: float | None = None
    note: str = ""
    question: str = ""

    @classmethod
    def of(cls, interval: Interval, **rest: Any) -> Self:
        """A figure of an estimate with its interval."""
        return cls(value=interval.estimate, low=interval.low, high=interval.high, **rest)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot.

    Attributes:
        section, condition, texts: as of :class:`Figure`.
        measure: curves of one measure share a plot.
        x_label, y_label: words with units.
        x, y: points.
        low, high: 95 % interval of each y, or empty.
    """

    section: str
    measure: str
    condition: str
    texts: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DocumentValue:
    """A measure of one document."""

    section: str
    measure: str
    condition: str
    texts: str
    document: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A run of tokens, told as text or by their number.

    Attributes:
        tokens: how many.
        matching: the document has them there too.
        text: decoded; None where it is not to be quoted.
        sha256: of the text in UTF-8; None where the text is there, or so short that it could be found by trying.
    """

    tokens: int
    matching: bool
    text: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a model wrote beside what the document says; see :func:`memsinks.audit.quoting.example`."""

    section: str
    measure: str
    condition: str
    document: str
    given: tuple[Passage, ...]
    expected: tuple[Passage, ...]
    written: tuple[Passage, ...]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that one measurement found."""

    figures: tuple[Figure, ...] = ()
    curves: tuple[Curve, ...] = ()
    documents: tuple[DocumentValue, ...] = ()
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain Python values for :func:`json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; other keys are left aside.

        Raises:
            ValueError: it is not what :meth:`to_json` gave.
        """
        return TypeAdapter(cls).validate_python({field.name: content.get(field.name) for field in fields(cls)})

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """All of several, in their order."""
        parts = list(parts)
        return cls(
            figures=tuple(f for part in parts for f in part.figures),
            curves=tuple(c for part in parts for c in part.curves),
            documents=tuple(d for part in parts for d in part.documents),
            examples=tuple(e for part in parts for e in part.examples),
        )
