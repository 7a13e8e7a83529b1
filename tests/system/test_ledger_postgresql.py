"""A ledger on a PostgreSQL server of our own, reached with a password."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from ledger_behaviour import ENTRIES, WRITER, LedgerBehaviour, filled, run_sql, shown, write
from postgresql_server import PASSWORD
from sqlalchemy.exc import DBAPIError

from memsinks.errors import LedgerError
from memsinks.ledger import Ledger
from memsinks.ledger.store import ADVISORY_LOCK

pytestmark = pytest.mark.system

# Without the advisory lock, and with the locked row that other databases get.
BY_ROW = (
    """
from sqlalchemy import select
from memsinks.ledger import store
store._lock = lambda connection: None
store._lock_head = lambda connection: connection.execute(select(store.HEAD.c.seq).with_for_update())
"""
    + WRITER
)


class TestPostgresql(LedgerBehaviour):
    pass


def test_the_table_is_not_emptied(place):
    filled(place)
    with pytest.raises(DBAPIError, match="append-only"):
        run_sql(place, f"TRUNCATE {ENTRIES}")


def test_other_tables_may_be_beside_it(place):
    run_sql(place, "CREATE TABLE books (title TEXT)")
    ledger, entries = filled(place)
    assert ledger.entries() == entries


def test_two_writers_under_the_lock_of_a_row_make_one_chain(place):
    Ledger.open(place).append("noted", "", {"text": "first"})
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: write(place, name, 50, BY_ROW), ["a", "b"]))
    ledger = Ledger.open(place)
    assert ledger.verify() == []
    assert [entry.seq for entry in ledger.entries()] == list(range(1, 102))


def test_a_strict_default_isolation_does_not_break_the_chain(place):
    run_sql(place, f"ALTER DATABASE {place.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: write(place, name, 20), ["a", "b"]))
    ledger = Ledger.open(place)
    assert ledger.verify() == []
    assert ledger.head().seq == 40


def test_another_writer_is_waited_for_and_then_named(place, monkeypatch):
    monkeypatch.setattr("memsinks.ledger.store.BUSY_SECONDS", 0.2)
    ledger, _ = filled(place)
    with psycopg.connect(place.replace("+psycopg", "")) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        with pytest.raises(LedgerError, match=r"another process has kept it .* nothing was recorded: try again"):
            ledger.append("noted", "r1", {"text": "x"})
    assert ledger.append("noted", "r1", {"text": "x"}).seq == 6


def test_a_server_that_stops_between_entries(server, place):
    ledger, entries = filled(place)
    server.stop("immediate")
    try:
        with pytest.raises(LedgerError, match=r"cannot be written .* nothing was recorded") as caught:
            ledger.append("completed", "r1", {})
        assert PASSWORD not in shown(caught.value)
    finally:
        server.start()
    assert ledger.entries() == entries
    assert ledger.append("completed", "r1", {}).seq == 6
    assert ledger.verify([entries[4].head]) == []


def test_a_server_that_stops_among_entries(server, place):
    with ThreadPoolExecutor() as pool:
        ledger, acknowledged, errors = Ledger.open(place), [], []

        def append():
            while not errors:
                try:
                    acknowledged.append(ledger.append("noted", "r1", {"text": "x"}))
                except LedgerError as error:
                    errors.append(error)

        writing = pool.submit(append)
        while len(acknowledged) < 30 and not writing.done():
            time.sleep(0.01)
        server.stop("immediate")
        writing.result()
        server.start()
    assert len(acknowledged) >= 30
    assert re.search("nothing was recorded|not known whether the entry was recorded", str(errors[0]))
    assert ledger.verify([entry.head for entry in acknowledged]) == []
    assert ledger.head().seq - len(acknowledged) in (0, 1)


def test_a_wrong_password_is_told_and_not_shown(server):
    with pytest.raises(LedgerError, match="password authentication failed") as caught:
        Ledger.open(server.url("postgres", "correct-horse"))
    assert "correct-horse" not in shown(caught.value)
    assert "desk:***@127.0.0.1" in str(caught.value)


def test_its_name_has_no_password(place):
    ledger = Ledger.open(place)
    assert PASSWORD not in repr(ledger)
    assert PASSWORD not in ledger.place
    assert "desk:***@127.0.0.1" in repr(ledger)
