"""What ``audit.json`` holds, typed and checked before anything is drawn from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pydantic import TypeAdapter, ValidationError

from memsinks.audit.findings import Curve, DocumentValue, Example, Figure
from memsinks.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The model: its name, its family, how many parameters it has, and the SHA-256 of its corpus."""

    name: str
    family: str
    parameters: int
    corpus: str


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """The text that is asked about.

    Attributes:
        asked: for people.
        removed: it was removed from the run before the audit.
        documents, tokens, ids: how many; ``ids`` counts sequence IDs.
        complete: these are all documents that were asked about, not the most exposed of them.
        sources: it comes from.
        least_exposures, most_exposures: in training, of one document.
        sha256: of its documents; the same for the same text, whatever model is audited.
    """

    asked: str
    removed: bool
    documents: int
    complete: bool
    tokens: int
    ids: int
    sources: tuple[str, ...]
    least_exposures: int
    most_exposures: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class UnseenFacts:
    """The text that was held out from training; ``same_source``: of the target's sources."""

    documents: int
    tokens: int
    same_source: bool
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ConditionFacts:
    """A condition: its name, what it is in a sentence, and the name of the model.

    ``in_memory``: sinks were taken out for it of a model that still has them on disk.
    """

    name: str
    says: str
    model: str
    in_memory: bool


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """A training of the run: its corpus and settings by SHA-256, and its length."""

    corpus: str
    config: str
    steps: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class RemovalFacts:
    """A removal from the run; ``everything``: all sinks went."""

    id: str
    time: str
    everything: bool
    ids: int
    documents: int


@dataclass(frozen=True, kw_only=True)
class LineageFacts:
    """Trainings and removals, in order."""

    trainings: tuple[TrainingFacts, ...]
    removals: tuple[RemovalFacts, ...]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A measurement that was not carried out, and why."""

    task: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A verdict, see :class:`memsinks.auditing.verdicts.Verdict`."""

    key: str
    question: str
    answer: str
    condition: str
    says: str
    basis: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AuditContent:
    """An audit, as :mod:`memsinks.auditing.document` describes it."""

    time: str
    run: RunFacts
    target: TargetFacts
    unseen: UnseenFacts
    conditions: tuple[ConditionFacts, ...]
    lineage: LineageFacts | None
    figures: tuple[Figure, ...]
    curves: tuple[Curve, ...]
    documents: tuple[DocumentValue, ...]
    examples: tuple[Example, ...]
    left_out: tuple[LeftOut, ...]
    verdicts: tuple[Answer, ...]
    limits: tuple[str, ...]
    config: dict[str, Any]
    versions: dict[str, str]
    seconds: float

    @property
    def sections(self) -> list[str]:
        """Names of families of measurements, in their order."""
        return list(dict.fromkeys(part.section for part in self._parts))

    @property
    def order(self) -> list[str]:
        """Names of conditions, those of figures that are no state of a model last."""
        names = [condition.name for condition in self.conditions]
        return list(dict.fromkeys([*names, *(part.condition for part in self._parts)]))

    @property
    def _parts(self) -> Iterator[Figure | Curve | DocumentValue | Example]:
        return chain(self.figures, self.curves, self.documents, self.examples)


def parse(content: dict[str, Any]) -> AuditContent:
    """The content of an ``audit.json``.

    Raises:
        InputError: something is missing or of the wrong kind; the message names it.
    """
    try:
        audit = TypeAdapter(AuditContent).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise InputError(f"the audit cannot be read: {where}: {first['msg']}; it was altered: audit again") from error
    for curve in audit.curves:
        if {len(curve.x), len(curve.low) or len(curve.x), len(curve.high) or len(curve.x)} != {len(curve.y)}:
            raise InputError(f"the audit cannot be read: the curve {curve.measure!r} has unequal numbers of x and y")
    return audit
