"""Where a ledger is: an SQLite file or the URL of a database. No password gets out of here."""

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from memsinks.errors import InputError

BUSY_SECONDS = 30
"""How long a writer waits for another one."""
CONNECT_SECONDS = 10

# Two letters or more before the colon, so that a drive of Windows is a path.
_URL = re.compile(r"[A-Za-z][\w+.-]+:")
_SECRET = re.compile("pass|secret|token", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class Location:
    """A database.

    Attributes:
        url: what SQLAlchemy connects to, password included.
        path: its file, if it is SQLite.
        shown: its name for messages, without a password.
    """

    url: URL
    path: Path | None
    shown: str

    def without_secrets(self, text: str) -> str:
        """A driver's message in which passwords of the URL are replaced."""
        secrets = [self.url.password, *(v for k, v in self.url.query.items() if _SECRET.search(k))]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                text = text.replace(secret, "***")
        return text


def locate(place: str | Path) -> Location:
    """The database that a path or a URL means; nothing is opened.

    Raises:
        InputError: the URL cannot be read, or the folder of the file does not exist.
    """
    if isinstance(place, str) and _URL.match(place):
        return _from_url(place)
    return _from_path(Path(place))


def engine(location: Location) -> Engine:
    """An engine whose errors show no values, and whose connections are not kept open.

    Raises:
        InputError: SQLAlchemy does not know the kind of database, or its driver is not installed.
    """
    backend, driver = location.url.get_backend_name(), location.url.drivername.partition("+")[2]
    options: dict[str, object] = {}
    if backend == "sqlite":
        # sqlite3 would begin transactions by itself, and too late: not before the first change.
        options = {"isolation_level": None, "timeout": BUSY_SECONDS}
    elif backend == "postgresql" and driver in ("", "psycopg", "psycopg2"):
        options = {} if "connect_timeout" in location.url.query else {"connect_timeout": CONNECT_SECONDS}
    try:
        made = create_engine(location.url, poolclass=NullPool, hide_parameters=True, connect_args=options)
    except ArgumentError as error:
        raise InputError(f"{location.shown}: {error}; a URL begins as in postgresql://") from None
    except ImportError as error:
        raise InputError(
            f"{location.shown}: its driver is not installed ({error}); PostgreSQL: pip install 'memsinks[postgresql]'"
        ) from None
    if backend == "sqlite":
        event.listen(made, "connect", _set_up_sqlite)
        event.listen(made, "begin", _begin_sqlite)
    return made


def _from_path(path: Path) -> Location:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the file of a ledger in it, such as {path / 'ledger.sqlite'}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it, or choose another place")
    return Location(URL.create("sqlite", database=str(path)), path, str(path))


def _from_url(text: str) -> Location:
    try:
        url = make_url(text)
    # A port that is no number raises ValueError. Neither message is passed on: it may have parts of the password in it.
    except (ArgumentError, ValueError):
        url = None
    if url is None or "@" in (url.host or ""):
        raise InputError(
            "the URL of the ledger cannot be read; it has the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
            "signs such as @ : / in the password as %40 %3A %2F"
        )
    if url.get_backend_name() != "sqlite":
        hidden = {k: "***" for k in url.query if _SECRET.search(k)}
        return Location(url, None, url.update_query_dict(hidden).render_as_string(hide_password=True))
    in_memory = not url.database or url.database.startswith((":memory:", "file:"))
    if in_memory or url.query or url.password or url.drivername not in ("sqlite", "sqlite+pysqlite"):
        shown = url.set(query={}).render_as_string(hide_password=True)
        raise InputError(f"{shown}: a ledger in SQLite is a plain file without options; give its path")
    return _from_path(Path(url.database or ""))


def _set_up_sqlite(connection: object, _record: object) -> None:
    # A connection of sqlite3, which SQLAlchemy's event hands on as an object.
    cursor = connection.cursor()  # type: ignore[attr-defined]
    # EXTRA is FULL, and the folder too is on the disk before an entry counts as recorded.
    cursor.execute("PRAGMA synchronous = EXTRA")
    # Erased names are overwritten in the file.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
