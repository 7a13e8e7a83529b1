"""The tables of a ledger, and the triggers by which the database itself refuses to change entries."""

from sqlalchemy import Column, Integer, MetaData, String, Table, Text, insert
from sqlalchemy.engine import Connection

from memsinks.ledger.chain import EMPTY, FORMAT_VERSION

metadata = MetaData()

ENTRIES = Table(
    "memsinks_ledger_entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", String(20), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("removal", String(200), nullable=False),
    Column("people", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
HEAD = Table(
    "memsinks_ledger_head",
    metadata,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("format_version", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)
"""One row: number and hash of the last entry."""
PEOPLE = Table(
    "memsinks_ledger_people",
    metadata,
    Column("commitment", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("salt", String(32)),
    Column("name", String(200)),
    Column("keep_until", String(10)),
)

_REFUSAL = "the ledger is append-only"
_TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER memsinks_ledger_no_update BEFORE UPDATE ON {ENTRIES.name} "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
        f"CREATE TRIGGER memsinks_ledger_no_delete BEFORE DELETE ON {ENTRIES.name} "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
        # INSERT OR REPLACE deletes without asking the trigger on DELETE.
        f"CREATE TRIGGER memsinks_ledger_no_replace BEFORE INSERT ON {ENTRIES.name} "
        f"WHEN EXISTS (SELECT 1 FROM {ENTRIES.name} WHERE seq = NEW.seq) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION memsinks_ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
        f"CREATE TRIGGER memsinks_ledger_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {ENTRIES.name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION memsinks_ledger_refuse()",
    ],
}


def create(connection: Connection) -> None:
    """Make the tables and triggers of an empty ledger; other databases than SQLite and PostgreSQL get no triggers."""
    metadata.create_all(connection, checkfirst=False)
    for statement in _TRIGGERS.get(connection.dialect.name, []):
        connection.exec_driver_sql(statement)
    connection.execute(insert(HEAD).values(only=1, format_version=FORMAT_VERSION, seq=EMPTY.seq, hash=EMPTY.hash))
