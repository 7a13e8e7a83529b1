"""The ledger of removals: append, read, verify, erase names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memsinks.errors import InputError, LedgerConflictError, LedgerError
from memsinks.ledger.chain import (
    BESIDE,
    EMPTY,
    KINDS,
    UNFINISHED,
    Entry,
    Head,
    Kind,
    Problem,
    check_chain,
    read_entry,
    seal,
)
from memsinks.ledger.denials import check_denial, denial, denied_at, permission
from memsinks.ledger.files import check_new, write_file
from memsinks.ledger.forms import as_time, canonical
from memsinks.ledger.people import Person, Role, check_people, commit, has_passed, is_named, normal_name, refuse_names

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from memsinks.ledger.store import Store

_LENGTH = 200


class Ledger:
    """An append-only record of removals in a database; open one with :meth:`open`.

    Every method reads or writes in a transaction of its own and keeps no connection, so one object may serve several
    threads. All raise :class:`LedgerError` when the database cannot be reached.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store

    @classmethod
    def open(cls, place: str | Path) -> "Ledger":
        """Open a ledger, or the place for one, which the first entry makes.

        Args:
            place: path of an SQLite file, in a folder that exists, or an SQLAlchemy URL such as
                ``postgresql://desk@host/governance``.

        Raises:
            InputError: the place cannot hold a ledger.
            LedgerError: the database cannot be reached, is no ledger, or has a newer format.
        """
        # Here, because SQLAlchemy takes a while and the rest of this package does without it.
        from memsinks.ledger.store import Store

        ledger = cls(Store(place))
        ledger.exists()
        return ledger

    def __repr__(self) -> str:
        return f"Ledger({self.place!r})"

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return self._store.name

    def exists(self) -> bool:
        """Whether it has been made, which its first entry does."""
        with self._store.reading() as connection:
            return connection is not None

    def append(
        self,
        kind: Kind,
        removal: str,
        body: Mapping[str, Any],
        *,
        people: Mapping[Role, str] | None = None,
        keep_days: int | None = None,
        expected_head: tuple[int, str] | None = None,
    ) -> Entry:
        """Add an entry; when this returns, the database has committed it.

        Args:
            kind: what it records.
            removal: the removal that it belongs to. May be empty for the kinds denied, allowed and noted.
            body: what JSON can hold: texts, numbers, lists, objects with text as keys. An entry ``noted`` has a
                ``text``; ``denied`` and ``allowed`` have ``ids`` and ``reason``, and ``denied`` also ``until``.
            people: names by role. They are kept beside the entry, which holds only commitments to them.
            keep_days: days for which the names are kept, or None to keep them until told.
            expected_head: refuse if the last entry is another one.

        Raises:
            InputError: a kind, role, name or value that an entry cannot have, or a name inside the body.
            LedgerConflictError: ``expected_head`` is not the last entry.
            LedgerError: the database cannot be written. A message says where it is not known whether it was.
        """
        _check(kind, removal, body)
        wanted = None if expected_head is None else Head(*expected_head).checked()
        named = commit(people or {}, keep_days, datetime.now(UTC).date())
        refuse_names(body, named, "the body")
        refuse_names(removal, named, "the name of the removal")
        with self._store.writing() as connection:
            return self._add(connection, kind, removal, body, named, wanted)

    def deny(
        self, ids: Iterable[int], reason: str, until: datetime | None = None, *, removal: str = "", **options: Any
    ) -> Entry:
        """Put IDs on the deny-list until a moment, or until they are allowed; options as of :meth:`append`."""
        return self.append("denied", removal, denial(ids, reason, until), **options)

    def allow(self, ids: Iterable[int], reason: str, *, removal: str = "", **options: Any) -> Entry:
        """Take IDs off the deny-list; options as of :meth:`append`."""
        return self.append("allowed", removal, permission(ids, reason), **options)

    def entries(self, removal: str | None = None, kind: Kind | None = None) -> list[Entry]:
        """Entries in order: all, or those of a removal, of a kind, or of both.

        Raises:
            LedgerError: an entry was tampered with.
        """
        from memsinks.ledger.store import read_entries

        with self._store.reading() as connection:
            if connection is None:
                return []
            return [self._read(fields) for fields in read_entries(connection, removal, kind)]

    def head(self) -> Head:
        """Number and hash of the last entry; ``(0, "000…")`` before the first one.

        Raises:
            LedgerError: the database holds no record of it.
        """
        with self._store.reading() as connection:
            return EMPTY if connection is None else self._head(connection)

    def removals(self) -> dict[str, Kind]:
        """State of each removal: the kind of its last entry, notes and the deny-list apart."""
        return {entry.removal: entry.kind for entry in self.entries() if entry.removal and entry.kind not in BESIDE}

    def unfinished(self) -> list[str]:
        """Removals that have begun and are neither completed nor failed nor abandoned."""
        return [removal for removal, state in self.removals().items() if state in UNFINISHED]

    def denied(self, now: datetime | None = None) -> dict[int, str]:
        """IDs on the deny-list at a moment (now), with the reason.

        Raises:
            InputError: the moment has no time zone.
            LedgerError: an entry was tampered with.
        """
        return denied_at(self.entries(), datetime.now(UTC) if now is None else now)

    def names(self) -> dict[str, Person]:
        """The table of names by commitment, erased ones included."""
        from memsinks.ledger.store import read_people

        with self._store.reading() as connection:
            return {} if connection is None else {person.commitment: person for person in read_people(connection)}

    def verify(self, anchors: Iterable[tuple[int, str]] = ()) -> list[Problem]:
        """What is wrong with the ledger; an empty list if nothing is.

        Args:
            anchors: numbers and hashes of entries that were written down elsewhere. Only they show that somebody with
                every right in the database has made up a new chain.

        Raises:
            InputError: an anchor is not a number and a hash.
        """
        return self.check(anchors)[1]

    def check(self, anchors: Iterable[tuple[int, str]] = ()) -> tuple[Head, list[Problem]]:
        """Number and hash of the last entry, as the database records them, and what :meth:`verify` finds up to it."""
        from memsinks.ledger.store import read_entries, read_head, read_people

        with self._store.reading() as connection:
            if connection is None:
                return EMPTY, check_chain([], EMPTY, anchors)
            sequence, head = list(read_entries(connection)), read_head(connection)
            problems = check_chain(sequence, head, anchors) + check_people(sequence, read_people(connection))
            return head or EMPTY, problems

    def expire(self, today: date | None = None) -> int:
        """Erase the names whose last day has passed; the number of rows that were erased.

        Args:
            today: default the day in UTC.
        """
        day = datetime.now(UTC).date() if today is None else today
        return self._erase(lambda person: has_passed(person, day), note=False)

    def erase(self, name: str) -> int:
        """Erase a person's name in every role, whatever its case, and note how many rows that were.

        The note names nobody. Without such a name nothing is noted.

        Raises:
            InputError: it is not a name.
        """
        normal_name(name)
        return self._erase(lambda person: is_named(person, name), note=True)

    def export(self, output: Path, *, names: bool = False) -> Head:
        """Write all entries as JSON lines, with the names that are kept if asked for; number and hash of the last one.

        Raises:
            InputError: the file exists or cannot be written.
            LedgerError: there is no ledger, or an entry was tampered with.
        """
        from memsinks.ledger.store import read_entries, read_people

        check_new(output)
        with self._store.reading() as connection:
            if connection is None:
                raise LedgerError(f"{self.place}: there is no ledger yet")
            entries, head = [self._read(fields) for fields in read_entries(connection)], self._head(connection)
            kept = {person.commitment: person for person in read_people(connection)} if names else None
        write_file(output, entries, head, kept)
        return head

    def _add(
        self,
        connection: "Connection",
        kind: Kind,
        removal: str,
        body: Mapping[str, Any],
        people: Sequence[Person],
        wanted: Head | None = None,
    ) -> Entry:
        from memsinks.ledger.store import add

        head = self._head(connection)
        if wanted is not None and head != wanted:
            raise LedgerConflictError(
                f"{self.place}: its last entry is {head.seq}, not the expected {wanted.seq} ({wanted.hash[:8]}…); "
                "nothing was recorded: read what was added, and decide again"
            )
        # The time is taken when it is this writer's turn, so that one machine's times follow the order of entries.
        entry = seal(head, as_time(datetime.now(UTC)), kind, removal, {p.role: p.commitment for p in people}, body)
        add(connection, entry, people)
        return entry

    def _erase(self, chosen: Callable[[Person], bool], *, note: bool) -> int:
        from memsinks.ledger.store import erase, read_people

        if not self.exists():
            return 0
        with self._store.writing() as connection:
            rows = [person for person in read_people(connection) if not person.erased and chosen(person)]
            erase(connection, rows)
            if rows and note:
                body = {"text": "names erased on request", "names": len(rows)}
                self._add(connection, "noted", "", body, [])
            return len(rows)

    def _head(self, connection: "Connection") -> Head:
        from memsinks.ledger.store import read_head

        head = read_head(connection)
        if head is None or not head.is_valid():
            raise LedgerError(
                f"{self.place}: the record of its last entry is gone or damaged; run `memsinks ledger verify`"
            )
        return head

    def _read(self, fields: Mapping[str, Any]) -> Entry:
        try:
            return read_entry(fields)
        except LedgerError as error:
            raise LedgerError(
                f"{self.place}: entry {fields['seq']} was tampered with: {error}; run `memsinks ledger verify`"
            ) from error


def _check(kind: str, removal: str, body: Mapping[str, Any]) -> None:
    if kind not in KINDS:
        raise InputError(f"there is no kind {kind!r} of entry; the kinds are {', '.join(KINDS)}")
    if (
        not isinstance(removal, str)
        or removal != removal.strip()
        or len(removal) > _LENGTH
        or not removal.isprintable()
    ):
        raise InputError(f"removal {removal!r}: give up to {_LENGTH} printable characters without blanks at the ends")
    if not removal and kind not in BESIDE:
        raise InputError(f"an entry {kind!r} belongs to a removal; name it")
    if not isinstance(body, Mapping):
        raise InputError(f"the body of an entry is a JSON object, not a {type(body).__name__}")
    canonical(dict(body))
    if kind == "noted" and (not isinstance(body.get("text"), str) or not body["text"].strip()):
        raise InputError("an entry 'noted' has to have a text")
    if kind in ("denied", "allowed"):
        check_denial(kind, body)
