"""A ledger in an SQLite file."""

import sqlite3
import subprocess

import pytest
from ledger_behaviour import ENTRIES, LedgerBehaviour, filled, run_sql, shown
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from memsinks.errors import InputError, LedgerError
from memsinks.ledger import Ledger


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "ledger.sqlite")


class TestSqlite(LedgerBehaviour):
    pass


def test_a_path_a_text_and_a_url_mean_one_file(tmp_path):
    Ledger.open(tmp_path / "a.sqlite").append("noted", "", {"text": "x"})
    for place in (str(tmp_path / "a.sqlite"), f"sqlite:///{tmp_path / 'a.sqlite'}"):
        assert Ledger.open(place).head().seq == 1


def test_opening_and_reading_make_no_file(tmp_path):
    ledger = Ledger.open(tmp_path / "a.sqlite")
    assert ledger.entries() == []
    assert list(tmp_path.iterdir()) == []


def test_an_entry_is_not_replaced(place):
    filled(place)
    with pytest.raises(DBAPIError, match="append-only"):
        run_sql(place, f"INSERT OR REPLACE INTO {ENTRIES} SELECT * FROM {ENTRIES} WHERE seq = 5")


def test_places_that_can_hold_no_ledger_are_refused(tmp_path):
    for place, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a.sqlite", "does not exist"),
        ("sqlite://", "is a plain file without options"),
        (f"sqlite:///{tmp_path}/a.sqlite?mode=ro", "is a plain file without options"),
    ):
        with pytest.raises(InputError, match=words):
            Ledger.open(place)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused_and_left_as_they_are(tmp_path):
    text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("these are notes, " * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE books (title TEXT)")
    connection.close()
    for file, words in ((text, "it is no ledger"), (other, "is no ledger: it lacks the tables")):
        before = file.read_bytes()
        with pytest.raises(LedgerError, match=words):
            Ledger.open(file)
        assert file.read_bytes() == before


def test_an_erased_name_is_not_in_the_file(tmp_path):
    ledger = Ledger.open(tmp_path / "a.sqlite")
    # Longer than what is written over it.
    name = "Ada Lovelace, " + "Countess of a very long place " * 5
    for person in ("Grace Hopper", name):
        ledger.append("planned", "r1", {}, people={"requester": person})
    (salt,) = [person.salt for person in ledger.names().values() if person.name.startswith("Ada")]
    assert b"Ada Lovelace" in (tmp_path / "a.sqlite").read_bytes()
    assert ledger.erase(name) == 1
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Grace Hopper" in left
    assert b"Ada Lovelace" not in left
    assert salt.encode() not in left


def fill_up(ledger):
    """Append until the place is full; the entries that were acknowledged, and the error."""
    written = []
    try:
        for number in range(2000):
            written.append(ledger.append("noted", "r1", {"text": f"{number} " + "x" * 2000}))
    except LedgerError as error:
        return written, error
    pytest.fail("it never was full")


def test_a_file_that_may_not_grow_keeps_whole_entries(tmp_path):
    ledger = Ledger.open(tmp_path / "a.sqlite")
    event.listen(ledger._store._engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count = 40").close())
    written, error = fill_up(ledger)
    assert "no space is left and nothing was recorded" in str(error)
    reopened = Ledger.open(tmp_path / "a.sqlite")
    assert written
    assert reopened.entries() == written
    assert reopened.verify() == []
    assert reopened.append("noted", "r1", {"text": "there is room again"}).seq == len(written) + 1


def test_a_full_disk_keeps_whole_entries(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount a small disk; the test before this one limits the file instead")
    try:
        ledger = Ledger.open(disk / "a.sqlite")
        written, error = fill_up(ledger)
        assert "no space is left and nothing was recorded" in str(error)
        assert written
        assert ledger.entries() == written
        assert ledger.verify() == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_another_writer_is_waited_for_and_then_named(place, monkeypatch):
    monkeypatch.setattr("memsinks.ledger.places.BUSY_SECONDS", 0.2)
    ledger, _ = filled(place)
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match=r"another process has kept it.*nothing was recorded: try again"):
        ledger.append("noted", "r1", {"text": "x"})
    other.execute("ROLLBACK")
    other.close()
    assert ledger.append("noted", "r1", {"text": "x"}).seq == 6


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://desk:hunter2@127.0.0.1:1/governance",
        "postgresql://desk@127.0.0.1:1/governance?password=hunter2",
        "postgresql://desk:x@hunter2@127.0.0.1:1/governance",
        "postgresql://desk:hunter2@127.0.0.1:port/governance",
        "postgresql:/desk:hunter2@127.0.0.1/governance",
        "postgres://desk:hunter2@127.0.0.1/governance",
        "mysql+nodriver://desk:hunter2@127.0.0.1/governance",
        "sqlite+pysqlcipher://:hunter2@/governance.sqlite?key=hunter2",
    ],
)
def test_a_password_is_in_no_error(url):
    with pytest.raises((InputError, LedgerError)) as caught:
        Ledger.open(url)
    assert "hunter2" not in shown(caught.value)
