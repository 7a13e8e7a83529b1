"""What a certificate of removal says: typed, checked when it is made, and the same bytes for the same content.

What is read may have fields that this version does not know; they are passed over, as in-toto asks. What is written may
not.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from memsinks.certificate.encoding import format_time, parse_time, utc
from memsinks.errors import InputError
from memsinks.ids import check_id, format_id, parse_id

FORMAT, FORMAT_VERSION = "memsinks-removal-certificate", 1

DOES_NOT_CLAIM = (
    "Facts, style and knowledge that shared neurons learned from the text are not removed.",
    "Earlier copies of the checkpoint, wherever they are, still hold what was removed from this one.",
    "What a pretrained base model knew before training with sinks is not removed.",
    "Text outside the corpus that the IDs were looked up in is not covered.",
    "What other documents quote from the text is removed only where they were asked for too.",
)
"""What no removal shows; every certificate says so."""

Verdict = Literal["pass", "fail", "inconclusive"]
ReasonKind = Literal[
    "shared_rows_kept",
    "shared_groups_kept",
    "without_sinks_kept",
    "residue_listed",
    "verification_inconclusive",
    "verification_failed",
]


def _parsed(read: Any) -> BeforeValidator:
    """Reads a string by a function whose errors are about the value."""

    def value(given: Any) -> Any:
        if not isinstance(given, str):
            raise ValueError("a string is expected")
        try:
            return read(given)
        except InputError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(value)


Line = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Digests = dict[Line, Digest]
SequenceId = Annotated[int, _parsed(parse_id), PlainSerializer(format_id)]
Time = Annotated[datetime, _parsed(parse_time), PlainSerializer(format_time)]


class _Part:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class Request(_Part):
    """What was asked for.

    Attributes:
        kinds: how many units were named, by kind, such as ``{"source": 1}``.
        ids: the sequence IDs that they came to; kept sorted, each once.
        target: the operator's description. The certificate goes to others, so it should name no person.
    """

    kinds: dict[Line, Count]
    ids: tuple[SequenceId, ...]
    target: Line

    def __post_init__(self) -> None:
        _set(self, ids=tuple(sorted({check_id(value) for value in self.ids})))


@dataclass(frozen=True, kw_only=True)
class VerificationCheck(_Part):
    """One measurement after the removal.

    Attributes:
        name: what was measured.
        verdict: what it came to.
        figure: the value, in the unit that the name says.
        threshold: what it was compared with.
        interval: lower and upper bound of the figure.
    """

    name: Line
    verdict: Verdict
    figure: float | None = None
    threshold: float | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        interval = self.interval
        # Equal numbers are written alike: 1 as 1.0, and -0.0 as 0.0.
        _set(
            self,
            figure=None if self.figure is None else float(self.figure) + 0.0,
            threshold=None if self.threshold is None else float(self.threshold) + 0.0,
            interval=None if interval is None else tuple(float(bound) + 0.0 for bound in interval),
        )


@dataclass(frozen=True, kw_only=True)
class LedgerAnchor(_Part):
    """An entry of the ledger of removals, noted where the ledger's keeper cannot change it.

    Attributes:
        seq: its number, from 1.
        hash: its SHA-256, as hexadecimal digits.
    """

    seq: Annotated[int, Field(ge=1)]
    hash: Digest


@dataclass(frozen=True, kw_only=True)
class Reason(_Part):
    """Why a removal is not complete.

    Attributes:
        kind: ``shared_rows_kept`` (sinks that survivors use too), ``shared_groups_kept`` (groups of documents that
            survivors belong to), ``without_sinks_kept`` (text that trained into shared weights alone),
            ``residue_listed`` (copies outside that were only listed), ``verification_inconclusive`` or
            ``verification_failed``.
        count: how many rows, groups, places or checks.
        detail: a sentence.
    """

    kind: ReasonKind
    count: Count
    detail: Line


@dataclass(frozen=True, kw_only=True)
class Predicate(_Part):
    """The statement about a removal.

    Attributes:
        removal: the removal's ID.
        time: when it was certified, in UTC and whole seconds; only the signer vouches for it.
        request: what was asked for.
        policies: what was chosen where there was a choice, by name.
        before: SHA-256 of the files of the checkpoint before, by POSIX name below its folder.
        after: of the checkpoint after, by POSIX name below the delivered directory.
        rows_removed: how many rows, by layer.
        verification: the measurements.
        evidence: SHA-256 of files such as ``plan.json`` and ``verification.json``, by name.
        ledger: the ledger's last entry, if there is a ledger.
        corpus_sha256: hash of the corpus's manifest, if there was a corpus.
        code_version: of memsinks.
        complete: whether all that was asked for was removed and no check failed.
        reasons: why not; empty if it was.
        does_not_claim: what the certificate does not show.

    Raises:
        InputError: it says complete and gives reasons or has a failed check, or says neither complete nor why not, or
            has a time without a zone.
        SequenceIdError: an ID is not one.
    """

    removal: Line
    time: Time
    request: Request
    policies: dict[Line, str]
    before: Annotated[Digests, Field(min_length=1)]
    after: Annotated[Digests, Field(min_length=1)]
    rows_removed: dict[Count, Count]
    verification: tuple[VerificationCheck, ...]
    evidence: Digests
    ledger: LedgerAnchor | None = None
    corpus_sha256: Digest | None = None
    code_version: Line
    complete: bool
    reasons: tuple[Reason, ...] = ()
    does_not_claim: tuple[Line, ...] = field(default=DOES_NOT_CLAIM)

    def __post_init__(self) -> None:
        _set(self, time=utc(self.time))
        failed = [check.name for check in self.verification if check.verdict == "fail"]
        if self.complete and self.reasons:
            kinds = ", ".join(sorted({reason.kind for reason in self.reasons}))
            raise InputError(
                f"removal {self.removal} cannot be certified as complete: there are reasons why not ({kinds})"
            )
        if self.complete and failed:
            raise InputError(f"removal {self.removal} cannot be certified as complete: {', '.join(failed)} failed")
        if not self.complete and not self.reasons:
            raise InputError(f"removal {self.removal} is certified as not complete, but no reason says why")

    def as_dict(self) -> dict[str, Any]:
        """The predicate for JSON.

        Raises:
            InputError: a field has a value that cannot be read back.
        """
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **_ADAPTER.dump_python(self, mode="json", warnings=False),
        }
        self.from_dict(content, unknown="refuse")
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any], *, unknown: Literal["ignore", "refuse"] = "ignore") -> "Predicate":
        """Read a predicate.

        Args:
            content: what :meth:`as_dict` made.
            unknown: what to do about fields that this version does not know.

        Raises:
            InputError: it is of another or a newer format, or a field is missing or has a wrong value.
        """
        content = dict(content)
        name, version = content.pop("format", None), content.pop("format_version", None)
        if name != FORMAT or not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise InputError(f"not a certificate of removal: its format is {name!r}, version {version!r}")
        if version > FORMAT_VERSION:
            raise InputError(
                f"the certificate has format version {version}, and this memsinks reads up to {FORMAT_VERSION}; use a "
                "newer memsinks"
            )
        try:
            # By way of text: the strict rules for JSON take a list for a tuple, and nothing else.
            return _ADAPTER.validate_json(json.dumps(content), extra="forbid" if unknown == "refuse" else "ignore")
        except ValidationError as error:
            problems = [": ".join(filter(None, (".".join(map(str, p["loc"])), p["msg"]))) for p in error.errors()]
            raise InputError("the predicate cannot be used: " + "; ".join(problems)) from error


_ADAPTER = TypeAdapter(Predicate)


def _set(part: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(part, name, value)
