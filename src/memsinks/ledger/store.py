"""The ledger in its database: transactions that read one state, or write one at a time, and what is done in them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import insert, inspect, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from memsinks.errors import LedgerError
from memsinks.ledger.chain import FORMAT_VERSION, Entry, Head, stored
from memsinks.ledger.people import Person
from memsinks.ledger.places import BUSY_SECONDS, engine, locate
from memsinks.ledger.tables import ENTRIES, HEAD, PEOPLE, create, metadata

# The first eight bytes of the SHA-256 of "memsinks-ledger", as PostgreSQL's signed 64 bits.
ADVISORY_LOCK = int.from_bytes(bytes.fromhex("191a0f9d02297570"), "big", signed=True)
# SQLSTATEs of PostgreSQL.
_FULL, _LOCKED = "53100", "55P03"


class Store:
    """A database that holds a ledger, or will.

    Args:
        place: a path, or an SQLAlchemy URL.

    Raises:
        InputError: the place cannot hold a ledger.
    """

    def __init__(self, place: str | Path) -> None:
        self._location = locate(place)
        self._engine = engine(self._location)

    @property
    def name(self) -> str:
        """The place, without a password."""
        return self._location.shown

    @contextmanager
    def reading(self) -> Iterator[Connection | None]:
        """A transaction that sees one state of the ledger; None where there is no ledger yet.

        Raises:
            LedgerError: the database cannot be reached or read, or holds something else.
        """
        path = self._location.path
        if path is not None and not path.exists():
            yield None
            return
        with self._told("read"), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection if self._holds_ledger(connection) else None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that no other writer is in at the same time; makes the ledger where there is none.

        Raises:
            LedgerError: the database cannot be reached or written, another writer does not end, or it holds something
                else than a ledger. Nothing was written, unless the message says that this is not known.
        """
        with self._told("written"), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                # Any higher level would see the state from before the wait for the lock.
                connection = connection.execution_options(isolation_level="READ COMMITTED")
            connection = connection.execution_options(writes=True)
            connection.begin()
            _lock(connection)
            if not self._holds_ledger(connection):
                create(connection)
            _lock_head(connection)
            yield connection
            with self._told("written", self._location.path is None):
                connection.commit()

    def _holds_ledger(self, connection: Connection) -> bool:
        """Whether there is a ledger; False where one can be made."""
        inspector = inspect(connection)
        missing = [name for name in metadata.tables if not inspector.has_table(name)]
        if missing:
            # A server's database may serve other purposes too; a file that holds other tables was named by mistake.
            others = inspector.get_table_names() if self._location.path is not None else []
            if others or len(missing) < len(metadata.tables):
                raise LedgerError(f"{self.name} is no ledger: it lacks the tables {', '.join(missing)}; check its name")
            return False
        version = connection.execute(select(HEAD.c.format_version)).scalars().first()
        # Without that row there is something to verify, and nothing to add to.
        if version is not None and version != FORMAT_VERSION:
            raise LedgerError(
                f"{self.name} is a ledger of format version {version}; this version of memsinks knows "
                f"{FORMAT_VERSION}: install a newer one"
            )
        return True

    @contextmanager
    def _told(self, done: str, uncertain: bool = False) -> Iterator[None]:
        """Errors of the database as one of this package, with what to do."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            words = self._location.without_secrets(" ".join(str(cause).split()))
            raise LedgerError(f"{self.name}: cannot be {done} ({words}); {_advice(cause, done, uncertain)}") from error


def read_head(connection: Connection) -> Head | None:
    """Number and hash of the last entry as the head row has them; None if the row is gone."""
    row = connection.execute(select(HEAD.c.seq, HEAD.c.hash)).first()
    return None if row is None else Head(*row)


def read_entries(connection: Connection, removal: str | None = None, kind: str | None = None) -> Iterator[Any]:
    """Stored fields of the entries of a removal and a kind, in order."""
    query = select(ENTRIES).order_by(ENTRIES.c.seq)
    if removal is not None:
        query = query.where(ENTRIES.c.removal == removal)
    if kind is not None:
        query = query.where(ENTRIES.c.kind == kind)
    for row in connection.execute(query):
        yield row._mapping


def read_people(connection: Connection) -> list[Person]:
    """All rows of the table of names."""
    return [Person(**row._mapping) for row in connection.execute(select(PEOPLE))]


def add(connection: Connection, entry: Entry, people: Iterable[Person]) -> None:
    """Add an entry and its names, and make it the head."""
    connection.execute(insert(ENTRIES).values(stored(entry)))
    for person in people:
        connection.execute(insert(PEOPLE).values(asdict(person)))
    connection.execute(update(HEAD).values(seq=entry.seq, hash=entry.hash))


def erase(connection: Connection, people: Iterable[Person]) -> None:
    """Erase the names and salts of these rows."""
    for person in people:
        connection.execute(update(PEOPLE).where(PEOPLE.c.commitment == person.commitment).values(name=None, salt=None))


def _lock(connection: Connection) -> None:
    # SQLite is locked since the transaction began.
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def _lock_head(connection: Connection) -> None:
    if connection.dialect.name not in ("sqlite", "postgresql"):
        connection.execute(select(HEAD.c.seq).with_for_update())


def _advice(cause: Any, done: str, uncertain: bool) -> str:
    state, words = getattr(cause, "sqlstate", None), str(cause)
    if uncertain:
        return "it is not known whether the entry was recorded: compare the head before you try again"
    if state == _FULL or "is full" in words:
        return "no space is left and nothing was recorded: free space, then try again"
    if state == _LOCKED or "is locked" in words:
        return f"another process has kept it for {BUSY_SECONDS} seconds and nothing was recorded: try again"
    if "not a database" in words:
        return "it is no ledger: check its name"
    end = "" if done == "read" else ", nothing was recorded"
    return f"check that it can be reached, and the rights in it{end}"
