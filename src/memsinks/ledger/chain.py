"""The chain: entries, their hashes, and what a check of a sequence finds. No input or output.

An entry's hash is the SHA-256 of the canonical JSON of all its other fields. One of these is the hash of the entry
before it, so a change anywhere shows in every later hash.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from memsinks.errors import InputError, LedgerError
from memsinks.ledger.forms import TIME, canonical

FORMAT, FORMAT_VERSION = "memsinks-ledger", 1

Kind = Literal[
    "planned",
    "approved",
    "applying",
    "applied",
    "verified",
    "failed",
    "purged",
    "completed",
    "abandoned",
    "denied",
    "allowed",
    "noted",
]
"""What an entry records. All but the last three are states of a removal."""
KINDS: tuple[Kind, ...] = get_args(Kind)
BESIDE: frozenset[Kind] = frozenset({"denied", "allowed", "noted"})
"""Kinds that leave the state of a removal as it is."""
UNFINISHED: frozenset[Kind] = frozenset({"applying", "applied", "verified", "purged"})
"""States in which a removal has begun and not ended."""

START = "0" * 64
"""What stands for the hash before the first entry."""

_HASH = re.compile(r"[0-9a-f]{64}")


class Head(NamedTuple):
    """The number and hash of an entry: the last one of a ledger, or one that was written down elsewhere."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Read ``SEQ:HASH``.

        Raises:
            InputError: it is not of that form.
        """
        seq, _, digits = text.partition(":")
        return cls(int(seq) if re.fullmatch(r"[0-9]{1,18}", seq) else -1, digits).checked()

    def is_valid(self) -> bool:
        """Whether it can be the number and hash of an entry."""
        return type(self.seq) is int and self.seq >= 0 and is_hash(self.hash)

    def checked(self) -> "Head":
        """Itself.

        Raises:
            InputError: it cannot be the number and hash of an entry.
        """
        if not self.is_valid():
            raise InputError(
                f"'{self}' is not the number and hash of an entry; give SEQ:HASH with a hash of 64 digits 0-9, a-f"
            )
        return self


EMPTY = Head(0, START)
"""The head of a ledger without entries."""


@dataclass(frozen=True)
class Entry:
    """One entry of a ledger.

    Attributes:
        seq: its number: 1, 2, …
        time: UTC, ISO 8601 to the second, as in ``2026-01-31T12:00:00Z``.
        kind: what it records.
        removal: the removal that it belongs to; empty if it is about the ledger or a deny-list as such.
        people: commitment to a name by role, 64 hexadecimal digits.
        body: a JSON object.
        previous: hash of the entry before it.
        hash: SHA-256 of the other fields, 64 hexadecimal digits.
    """

    seq: int
    time: str
    kind: Kind
    removal: str
    people: dict[str, str]
    body: dict[str, Any]
    previous: str
    hash: str

    @property
    def head(self) -> Head:
        """Its number and hash."""
        return Head(self.seq, self.hash)


@dataclass(frozen=True)
class Problem:
    """Something that a check of a ledger found.

    Attributes:
        seq: number of the entry that it is about, or None if it is about the whole.
        what: what is wrong, in words.
    """

    seq: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.seq is None else f"entry {self.seq}: {self.what}"


def is_hash(value: object) -> bool:
    """Whether it is a text of 64 digits 0-9, a-f."""
    return type(value) is str and _HASH.fullmatch(value) is not None


def seal(
    before: Head, time: str, kind: Kind, removal: str, people: Mapping[str, str], body: Mapping[str, Any]
) -> Entry:
    """The entry that follows ``before``.

    Raises:
        InputError: JSON cannot hold the body.
    """
    # A copy that shares nothing with the caller's, and is what a reader will get.
    content = json.loads(canonical(dict(body)))
    fields = {
        "seq": before.seq + 1,
        "time": time,
        "kind": kind,
        "removal": removal,
        "people": dict(people),
        "body": content,
        "previous": before.hash,
    }
    return Entry(**fields, hash=_digest(fields))


def stored(entry: Entry) -> dict[str, Any]:
    """An entry's fields as a database holds them: people and body as canonical JSON."""
    return asdict(entry) | {"people": canonical(entry.people), "body": canonical(entry.body)}


def read_entry(fields: Mapping[str, Any]) -> Entry:
    """An entry from stored fields, which may have been tampered with; its place in the chain is not looked at.

    Raises:
        LedgerError: a field is not as :func:`stored` makes it, or the hash is not that of the fields.
    """
    seq = fields["seq"]
    if type(seq) is not int or seq < 1:
        raise LedgerError(f"its number is {seq!r}")
    for name in ("time", "kind", "removal", "people", "body", "previous", "hash"):
        if type(fields[name]) is not str:
            raise LedgerError(f"its field {name} is no text")
    if fields["kind"] not in KINDS:
        raise LedgerError(f"its kind {fields['kind']!r} is unknown")
    if not TIME.fullmatch(fields["time"]):
        raise LedgerError(f"its time {fields['time']!r} is not of the form 2026-01-31T12:00:00Z")
    read = dict(fields) | {name: _object(fields[name], name) for name in ("people", "body")}
    if not all(is_hash(value) for value in read["people"].values()):
        raise LedgerError("its field people holds something else than hashes")
    found = read.pop("hash")
    if not is_hash(found) or _digest(read) != found:
        raise LedgerError("its hash is not that of its fields: one of them was changed")
    return Entry(**read, hash=found)


def check_chain(
    sequence: Iterable[Mapping[str, Any]], head: Head | None, anchors: Iterable[tuple[int, str]] = ()
) -> list[Problem]:
    """What is wrong with a sequence of stored entries, in the order in which they are kept.

    Args:
        sequence: the stored fields of each entry.
        head: number and hash of the last entry as kept beside them, if it is.
        anchors: numbers and hashes of entries that were written down elsewhere.

    Raises:
        InputError: an anchor is not a number and a hash.
    """
    wanted: dict[int, set[str]] = {}
    for anchor in anchors:
        seq, digits = Head(*anchor).checked()
        wanted.setdefault(seq, set()).add(digits)
    problems = [Problem(0, f"an anchor says {d}; there is none") for d in wanted.pop(0, set()) - {START}]
    last = EMPTY
    for fields in sequence:
        seq, digits = fields["seq"], fields["hash"]
        if type(seq) is not int:
            problems.append(Problem(last.seq + 1, f"its number is {seq!r}"))
            continue
        if seq > last.seq + 1:
            missing = f"entry {seq - 1} is" if seq == last.seq + 2 else f"entries {last.seq + 1} to {seq - 1} are"
            problems.append(Problem(seq, f"{missing} missing before it"))
        elif seq <= last.seq:
            problems.append(Problem(seq, f"it stands behind entry {last.seq}: inserted, or out of order"))
        elif fields["previous"] != last.hash:
            before = f"entry {last.seq}" if last.seq else "the start"
            problems.append(Problem(seq, f"the chain is broken: its previous hash is not that of {before}"))
        try:
            read_entry(fields)
        except LedgerError as error:
            problems.append(Problem(seq, str(error)))
        problems += [
            Problem(seq, f"an anchor says that its hash is {anchor}; it is {digits!r}")
            for anchor in sorted(wanted.pop(seq, set()))
            if anchor != digits
        ]
        last = Head(seq, digits)
    problems += _check_end(last, head)
    for seq in sorted(wanted):
        problems.append(Problem(seq, f"it is missing, but an anchor has its hash; the ledger ends at {last.seq}"))
    return problems


def _check_end(last: Head, head: Head | None) -> list[Problem]:
    if head is None:
        return [Problem(None, "the record of the last entry (head) is missing")]
    if type(head.seq) is not int:
        return [Problem(None, f"the record of the last entry (head) has the number {head.seq!r}")]
    if head.seq > last.seq:
        what = "it is" if head.seq == last.seq + 1 else f"it and all up to {head.seq} are"
        return [Problem(last.seq + 1, f"{what} missing at the end: the record of the last entry (head) has more")]
    if head.seq < last.seq:
        return [Problem(head.seq + 1, "it and what follows is not in the record of the last entry (head): added")]
    if head.hash != last.hash:
        return [Problem(last.seq, "the record of the last entry (head) has another hash")]
    return []


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(fields, "entry").encode()).hexdigest()


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or canonical(value) != text:
            raise LedgerError(f"its field {name} is not a JSON object in canonical form")
    except (ValueError, RecursionError, InputError) as error:
        raise LedgerError(f"its field {name} is not JSON") from error
    return value
