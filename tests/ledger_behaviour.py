"""What a ledger does on any database; tests of each database inherit it and give it a ``place``."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from memsinks.errors import InputError, LedgerConflictError, LedgerError
from memsinks.ledger import Ledger

ENTRIES, HEAD, PEOPLE = "memsinks_ledger_entries", "memsinks_ledger_head", "memsinks_ledger_people"
DROP_TRIGGERS = {
    "sqlite": [f"DROP TRIGGER memsinks_ledger_no_{what}" for what in ("update", "delete", "replace")],
    "postgresql": [f"DROP TRIGGER memsinks_ledger_no_change ON {ENTRIES}"],
}
WRITER = """
import sys
from memsinks.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
for i in range(int(sys.argv[3])):
    print(ledger.append("noted", sys.argv[2], {"text": str(i)}, people={"operator": "Ada"}).seq, flush=True)
"""
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def run_sql(place, *statements):
    """Run statements without the library."""
    engine = create_engine(place if "://" in place else f"sqlite:///{place}", poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def tamper(place, *statements):
    """Run statements as somebody who may drop triggers."""
    run_sql(place, *DROP_TRIGGERS["postgresql" if "://" in place else "sqlite"], *statements)


def digest(fields):
    """The hash of an entry, by the documentation."""
    content = {key: fields[key] for key in ("seq", "time", "kind", "removal", "people", "body", "previous")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def filled(place):
    """A ledger of five entries, and the entries."""
    ledger = Ledger.open(place)
    people = {"requester": "Ada Lovelace", "approver": "Émilie du Châtelet"}
    ledger.append("planned", "r1", {"ids": ["00000000000000ff"], "loss": 0.25}, people=people, keep_days=30)
    ledger.append("approved", "r1", {"note": "naïve \u2713", "deep": {"b": [1, None, True], "a": -0.5}})
    ledger.append("applying", "r1", {}, people={"operator": "Ada Lovelace"})
    ledger.append("planned", "r2", {})
    ledger.append("applied", "r1", {"rows": 12})
    return ledger, ledger.entries()


def rechain(place, entries, seq, **changes):
    """Change an entry and give it and all later ones new hashes, as somebody with every right would."""
    statements, previous = [], entries[seq - 2].hash if seq > 1 else "0" * 64
    for entry in entries[seq - 1 :]:
        fields = vars(entry) | (changes if entry.seq == seq else {}) | {"previous": previous}
        previous = digest(fields)
        statements.append(
            f"UPDATE {ENTRIES} SET removal = '{fields['removal']}', previous = '{fields['previous']}', "
            f"hash = '{previous}' WHERE seq = {entry.seq}"
        )
    tamper(place, *statements, f"UPDATE {HEAD} SET hash = '{previous}'")


def problems(ledger, anchors=()):
    return [str(problem) for problem in ledger.verify(anchors)]


TAMPERING = {
    "time": (f"UPDATE {ENTRIES} SET time = '2020-01-01T00:00:00Z' WHERE seq = 2", ["entry 2: its hash is not"]),
    "kind": (f"UPDATE {ENTRIES} SET kind = 'abandoned' WHERE seq = 2", ["entry 2: its hash is not"]),
    "unknown kind": (f"UPDATE {ENTRIES} SET kind = 'agreed' WHERE seq = 2", ["entry 2: its kind 'agreed' is unknown"]),
    "removal": (f"UPDATE {ENTRIES} SET removal = 'r9' WHERE seq = 1", ["entry 1: its hash is not"]),
    "body": (f"UPDATE {ENTRIES} SET body = '{{\"rows\":13}}' WHERE seq = 5", ["entry 5: its hash is not"]),
    "blank in body": (f"UPDATE {ENTRIES} SET body = '{{\"rows\": 12}}' WHERE seq = 5", ["entry 5: its field body"]),
    "no JSON": (f"UPDATE {ENTRIES} SET body = '{{' WHERE seq = 5", ["entry 5: its field body is not JSON"]),
    "people": (
        f"UPDATE {ENTRIES} SET people = '{{}}' WHERE seq = 3",
        ["entry 3: its hash is not", "names that belong"],
    ),
    "hash": (
        f"UPDATE {ENTRIES} SET hash = '{'1' * 64}' WHERE seq = 2",
        ["entry 2: its hash is not", "entry 3: the chain is broken"],
    ),
    "previous": (
        f"UPDATE {ENTRIES} SET previous = '{'1' * 64}' WHERE seq = 2",
        ["entry 2: the chain is broken", "entry 2: its hash is not"],
    ),
    "entry gone": (f"DELETE FROM {ENTRIES} WHERE seq = 2", ["entry 3: entry 2 is missing before it"]),
    "entries gone": (f"DELETE FROM {ENTRIES} WHERE seq IN (2, 4)", ["entry 3: entry 2 is", "entry 5: entry 4 is"]),
    "first gone": (
        f"DELETE FROM {ENTRIES} WHERE seq = 1",
        ["entry 2: entry 1 is missing before it", "names that belong to no entry: 2"],
    ),
    "tail gone": (f"DELETE FROM {ENTRIES} WHERE seq > 3", ["entry 4: it and all up to 5 are missing at the end"]),
    "added": (
        f"INSERT INTO {ENTRIES} SELECT 6, time, kind, removal, people, body, hash, hash FROM {ENTRIES} WHERE seq = 5",
        ["entry 6: its hash is not", "entry 6: it and what follows is not in the record"],
    ),
    "head hash": (
        f"UPDATE {HEAD} SET hash = '{'1' * 64}'",
        ["entry 5: the record of the last entry (head) has another"],
    ),
    "head gone": (f"DELETE FROM {HEAD}", ["the record of the last entry (head) is missing"]),
    "name": (
        f"UPDATE {PEOPLE} SET name = 'Eve' WHERE role = 'approver'",
        ["entry 1: the name, role or salt of its app"],
    ),
    "role": (f"UPDATE {PEOPLE} SET role = 'operator' WHERE role = 'approver'", ["entry 1: the name, role or salt"]),
    "salt": (f"UPDATE {PEOPLE} SET salt = '{'0' * 32}' WHERE role = 'operator'", ["entry 3: the name, role or salt"]),
    "salt alone gone": (
        f"UPDATE {PEOPLE} SET salt = NULL WHERE role = 'operator'",
        ["entry 3: the name, role or salt"],
    ),
    "name row gone": (f"DELETE FROM {PEOPLE} WHERE role = 'operator'", ["entry 3: the row of its operator is missing"]),
    "stranger": (
        f"INSERT INTO {PEOPLE} VALUES ('{'2' * 64}', 'operator', '{'0' * 32}', 'Eve', NULL)",
        ["names that belong to no entry: 1"],
    ),
}


class LedgerBehaviour:
    """Tests that ask for ``place``: where a ledger can be made, and none is yet."""

    def test_entries_come_back_as_they_were_written(self, place):
        ledger, entries = filled(place)
        assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
        assert entries[1].body == {"note": "naïve \u2713", "deep": {"b": [1, None, True], "a": -0.5}}
        assert [e.seq for e in ledger.entries("r1")] == [1, 2, 3, 5]
        assert [e.seq for e in ledger.entries(kind="planned")] == [1, 4]
        assert [e.seq for e in ledger.entries("r2", "planned")] == [4]
        assert ledger.head() == (5, entries[4].hash)
        assert Ledger.open(place).entries() == entries

    def test_a_new_ledger_verifies_and_its_hashes_are_those_of_the_documentation(self, place):
        ledger, entries = filled(place)
        assert ledger.verify() == []
        assert ledger.verify([entry.head for entry in entries]) == []
        previous = "0" * 64
        for entry in entries:
            assert entry.previous == previous
            previous = digest(vars(entry))
            assert entry.hash == previous

    def test_there_is_no_ledger_before_its_first_entry(self, place):
        ledger = Ledger.open(place)
        assert not ledger.exists()
        assert (ledger.entries(), ledger.removals(), ledger.denied(NOW), ledger.verify()) == ([], {}, {}, [])
        assert (ledger.expire(), ledger.erase("Ada"), ledger.head().seq, ledger.exists()) == (0, 0, 0, False)
        assert problems(ledger, [(1, "1" * 64)]) == [
            "entry 1: it is missing, but an anchor has its hash; the ledger ends at 0"
        ]

    @pytest.mark.parametrize("change", ["SET body = '{}'", "SET seq = seq + 10"])
    def test_the_database_refuses_to_change_entries(self, place, change):
        ledger, entries = filled(place)
        with pytest.raises(DBAPIError, match="append-only"):
            run_sql(place, f"UPDATE {ENTRIES} {change}")
        with pytest.raises(DBAPIError, match="append-only"):
            run_sql(place, f"DELETE FROM {ENTRIES} WHERE seq = 5")
        assert ledger.entries() == entries

    @pytest.mark.parametrize("case", TAMPERING)
    def test_tampering_is_found_where_it_was(self, place, case):
        statement, expected = TAMPERING[case]
        ledger, _ = filled(place)
        tamper(place, statement)
        found = problems(ledger)
        assert len(found) == len(expected), found
        for line, words in zip(found, expected, strict=True):
            assert line.startswith(words)

    def test_entries_that_changed_places_are_found(self, place):
        ledger, _ = filled(place)
        swap = ((3, 30), (2, 3), (30, 2))
        tamper(place, *(f"UPDATE {ENTRIES} SET seq = {new} WHERE seq = {old}" for old, new in swap))
        found = problems(ledger)
        assert any(line.startswith("entry 2: the chain is broken") for line in found)
        assert any(line.startswith("entry 3: its hash is not") for line in found)

    def test_a_tampered_entry_is_not_read(self, place):
        ledger, _ = filled(place)
        tamper(place, f"UPDATE {ENTRIES} SET removal = 'r9' WHERE seq = 2")
        with pytest.raises(LedgerError, match="entry 2 was tampered with"):
            ledger.entries()

    def test_a_tail_cut_off_with_its_head_is_found_by_an_anchor_alone(self, place):
        ledger, entries = filled(place)
        tamper(
            place,
            f"DELETE FROM {ENTRIES} WHERE seq > 3",
            f"UPDATE {HEAD} SET seq = 3, hash = '{entries[2].hash}'",
        )
        assert ledger.verify() == []
        assert ledger.verify([entries[2].head]) == []
        assert problems(ledger, [entries[4].head]) == [
            "entry 5: it is missing, but an anchor has its hash; the ledger ends at 3"
        ]

    def test_a_chain_made_anew_is_found_by_an_anchor_alone(self, place):
        ledger, entries = filled(place)
        rechain(place, entries, 2, removal="r9")
        assert ledger.verify() == []
        assert ledger.verify([entries[0].head]) == []
        (problem,) = ledger.verify([entries[3].head])
        assert problem.seq == 4
        assert "an anchor says that its hash is" in problem.what

    def test_names_are_in_no_entry(self, place):
        ledger, entries = filled(place)
        written = json.dumps([vars(entry) for entry in entries], ensure_ascii=False)
        assert "Lovelace" not in written
        assert "milie" not in written
        names = ledger.names()
        assert {role: names[c].name for role, c in entries[0].people.items()} == {
            "requester": "Ada Lovelace",
            "approver": "Émilie du Châtelet",
        }
        commitments = [c for entry in entries for c in entry.people.values()]
        assert len(set(commitments)) == len(commitments) == 3, "one person's commitments differ"
        for commitment, person in names.items():
            content = json.dumps([person.salt, person.role, person.name], separators=(",", ":"))
            assert hashlib.sha256(content.encode()).hexdigest() == commitment
            assert len(bytes.fromhex(person.salt)) == 16

    def test_names_are_erased_after_their_last_day(self, place):
        ledger, entries = filled(place)
        last = date.fromisoformat(entries[0].time[:10]) + timedelta(days=30)
        assert ledger.expire(last) == 0
        assert ledger.expire(last + timedelta(days=1)) == 2
        assert ledger.expire(last + timedelta(days=1)) == 0
        names = ledger.names()
        assert all(names[c].erased for c in entries[0].people.values())
        assert names[entries[2].people["operator"]].name == "Ada Lovelace", "kept until told"
        assert ledger.verify([entries[4].head]) == []
        assert ledger.entries() == entries

    def test_a_person_is_erased_in_every_role_and_the_note_names_nobody(self, place):
        ledger, entries = filled(place)
        assert ledger.erase("Nobody") == 0
        assert ledger.erase(" ada  LOVELACE") == 2
        kept = {person.name for person in ledger.names().values() if not person.erased}
        assert kept == {"Émilie du Châtelet"}
        *before, note = ledger.entries()
        assert before == entries
        assert (note.kind, note.removal, note.people) == ("noted", "", {})
        assert note.body == {"text": "names erased on request", "names": 2}
        assert ledger.verify() == []
        assert ledger.removals() == {"r1": "applied", "r2": "planned"}

    def test_an_entry_is_refused_if_somebody_else_wrote_since(self, place):
        ledger, entries = filled(place)
        other = Ledger.open(place)
        head = ledger.head()
        mine = other.append("noted", "r1", {"text": "first"}, expected_head=head)
        with pytest.raises(LedgerConflictError, match="its last entry is 6, not the expected 5"):
            ledger.append("completed", "r1", {}, people={"operator": "Ada"}, expected_head=head)
        assert ledger.entries() == [*entries, mine]
        assert len(ledger.names()) == 3
        assert ledger.append("completed", "r1", {}, expected_head=ledger.head()).seq == 7

    def test_states_of_removals(self, place):
        ledger, _ = filled(place)
        assert ledger.removals() == {"r1": "applied", "r2": "planned"}
        assert ledger.unfinished() == ["r1"]
        ledger.append("noted", "r1", {"text": "a note changes no state"})
        ledger.deny([1], "asked for", removal="r2")
        assert ledger.removals() == {"r1": "applied", "r2": "planned"}
        for kind, unfinished in (
            ("verified", ["r1"]),
            ("failed", []),
            ("applying", ["r1"]),
            ("purged", ["r1"]),
            ("completed", []),
            ("abandoned", []),
        ):
            ledger.append(kind, "r1", {})
            assert ledger.unfinished() == unfinished, kind

    def test_the_deny_list_follows_time_and_permissions(self, place):
        ledger = Ledger.open(place)
        big = 2**64 - 1
        ledger.deny([1, 2, big], "request 7", NOW + timedelta(hours=1))
        ledger.deny([2], "complaint")
        assert ledger.denied(NOW) == {1: "request 7", 2: "complaint", big: "request 7"}
        assert ledger.denied(NOW + timedelta(hours=1)) == {2: "complaint"}
        ledger.allow([2, 3], "settled")
        assert ledger.denied(NOW) == {1: "request 7", big: "request 7"}
        ledger.deny([2], "again", NOW + timedelta(days=1))
        assert ledger.denied(NOW + timedelta(hours=2)) == {2: "again"}
        with pytest.raises(InputError, match="time zone"):
            ledger.denied(datetime(2026, 6, 1))
        assert ledger.entries()[0].body["ids"] == ["0000000000000001", "0000000000000002", "f" * 16]

    def test_bad_entries_are_refused_and_make_no_ledger(self, place):
        ledger = Ledger.open(place)
        for arguments, words in (
            (("agreed", "r1", {}), "no kind 'agreed'"),
            (("planned", "", {}), "belongs to a removal"),
            (("planned", "r\n1", {}), "printable"),
            (("planned", "r1", {"loss": float("nan")}), "body.loss"),
            (("planned", "r1", {"a": [0, {1: 2}]}), r"body.a\[1\]: the key 1"),
            (("planned", "r1", {"a": "\ud800"}), "lone surrogate"),
            (("planned", "r1", {"a": {1, 2}}), "a set has no place"),
            (("noted", "r1", {}), "has to have a text"),
            (("denied", "", {"ids": ["1"], "reason": "x", "until": None}), "16 hexadecimal"),
            (("denied", "", {"ids": [], "reason": "x", "until": None}), "at least one ID"),
            (("denied", "", {"ids": ["f" * 16], "reason": "x"}), "ids, reason, until"),
            (("denied", "", {"ids": ["f" * 16], "reason": "x", "until": "soon"}), "no time"),
            (("allowed", "", {"ids": ["f" * 16], "reason": " "}), "reason"),
        ):
            with pytest.raises(InputError, match=words):
                ledger.append(*arguments)
        for people, words in (
            ({"boss": "Ada"}, "no role 'boss'"),
            ({"operator": " "}, "not a name"),
            ({"operator": "asked"}, "the body has the name of the operator in it"),
        ):
            with pytest.raises(InputError, match=words):
                ledger.append("planned", "r1", {"why": "She Asked."}, people=people)
        assert not ledger.exists()

    def test_a_ledger_of_a_newer_format_is_refused(self, place):
        filled(place)
        tamper(place, f"UPDATE {HEAD} SET format_version = 2")
        with pytest.raises(LedgerError, match=r"format version 2.*knows 1.*install a newer one"):
            Ledger.open(place)

    def test_a_part_of_a_ledger_is_refused(self, place):
        filled(place)
        tamper(place, f"DROP TABLE {PEOPLE}")
        with pytest.raises(LedgerError, match=f"is no ledger: it lacks the tables {PEOPLE}"):
            Ledger.open(place)

    @pytest.mark.parametrize("change", [f"DELETE FROM {HEAD}", f"UPDATE {HEAD} SET hash = 'x'"])
    def test_nothing_is_added_when_the_head_is_gone_or_damaged(self, place, change):
        ledger, _ = filled(place)
        tamper(place, change)
        with pytest.raises(LedgerError, match="the record of its last entry is gone or damaged"):
            ledger.append("noted", "r1", {"text": "x"})

    def test_a_failure_within_an_append_leaves_nothing(self, place):
        ledger, entries = filled(place)
        run_sql(place, f"ALTER TABLE {HEAD} RENAME COLUMN seq TO sequence")
        with pytest.raises(LedgerError, match="cannot be written"):
            ledger.append("noted", "r1", {"text": "x"}, people={"operator": "Bob"})
        run_sql(place, f"ALTER TABLE {HEAD} RENAME COLUMN sequence TO seq")
        assert ledger.entries() == entries
        assert ledger.verify() == []

    def test_two_writers_make_one_chain(self, place):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: write(place, name, 50), ["a", "b"]))
        ledger = Ledger.open(place)
        assert ledger.verify() == []
        assert [entry.seq for entry in ledger.entries()] == list(range(1, 101))
        assert len(ledger.entries("a")) == len(ledger.entries("b")) == 50

    def test_a_killed_writer_leaves_whole_entries(self, place):
        ledger = Ledger.open(place)
        for _ in range(3):
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, place, "r1", "100000"], stdout=subprocess.PIPE, text=True
            )
            acknowledged = [int(writer.stdout.readline()) for _ in range(20)][-1]
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged = [acknowledged, *map(int, writer.communicate()[0].split())][-1]
            # An append waits for what the database still does for the dead writer.
            assert ledger.append("noted", "r1", {"text": "after"}).seq in (acknowledged + 1, acknowledged + 2)
            assert ledger.verify() == []


def write(place, name, count, code=WRITER):
    """Append entries in a process of its own."""
    subprocess.run([sys.executable, "-c", code, place, name, str(count)], check=True, stdout=subprocess.DEVNULL)


def shown(error):
    """All that a traceback of this error would show of messages."""
    lines = []
    while error is not None:
        lines += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(lines)
