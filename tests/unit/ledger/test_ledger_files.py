"""A ledger exported to a file, checked there without its database."""

import json

import pytest
from ledger_behaviour import digest, filled

from memsinks.errors import InputError, LedgerError
from memsinks.ledger import Ledger, verify_file


@pytest.fixture
def exported(tmp_path):
    """A ledger of five entries of which one name is erased, and its file without and with names."""
    ledger, _ = filled(str(tmp_path / "ledger.sqlite"))
    ledger.erase("Émilie du Châtelet")
    ledger.export(tmp_path / "plain.jsonl")
    ledger.export(tmp_path / "names.jsonl", names=True)
    return ledger, tmp_path / "plain.jsonl", tmp_path / "names.jsonl"


def rewrite(file, change):
    """Change the lines of a file."""
    lines = file.read_text().splitlines(keepends=True)
    change(lines)
    file.write_text("".join(lines))


def found(file, anchors=()):
    return [str(problem) for problem in verify_file(file, anchors)[1]]


def edit(line, **changes):
    return json.dumps(json.loads(line) | changes, sort_keys=True, separators=(",", ":")) + "\n"


def test_a_file_verifies_and_holds_every_entry(exported):
    ledger, plain, names = exported
    anchors = [entry.head for entry in ledger.entries()]
    for file in (plain, names):
        assert verify_file(file, anchors) == (ledger.head(), [])
        header, *lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert (header["format"], header["format_version"]) == ("memsinks-ledger", 1)
        assert [digest(line) for line in lines] == [entry.hash for entry in ledger.entries()]


def test_names_are_in_the_file_only_if_asked_for(exported):
    _, plain, names = exported
    assert "Lovelace" not in plain.read_text()
    assert "salt" not in plain.read_text()
    first = json.loads(names.read_text().splitlines()[1])
    assert first["names"]["requester"]["name"] == "Ada Lovelace"
    assert first["names"]["approver"] is None


def remove(index):
    return lambda lines: lines.pop(index)


def replace(index, **changes):
    def change(lines):
        lines[index] = edit(lines[index], **changes)

    return change


def swap(lines):
    lines[2], lines[3] = lines[3], lines[2]


def cut(lines):
    lines[-1] = lines[-1][:40]


def blank(lines):
    lines[3] = lines[3].replace(":", ": ", 1)


def double_key(lines):
    lines[4] = lines[4].replace("{", '{"seq":9,', 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (replace(2, removal="r9"), "entry 2: its hash is not"),
        (replace(2, body={"a": 1}), "entry 2: its hash is not"),
        (replace(2, more=1), "line 3 is not an entry"),
        (replace(2, seq=True), "entry 2: its number is True"),
        (remove(3), "entry 4: entry 3 is missing"),
        (remove(-1), "entry 6: it is missing at the end"),
        (swap, "entry 3: entry 2 is missing before it"),
        (cut, "line 7 is not an entry"),
        (blank, "line 4 is not an entry"),
        (double_key, "line 5 is not an entry"),
        (replace(1, names={"requester": {"name": "Eve", "salt": "0" * 32}, "approver": None}), "entry 1: the name"),
        (replace(1, names={"requester": {"name": "Eve"}, "approver": None}), "entry 1: the name"),
        (replace(1, names={"requester": None}), "entry 1: the row of its approver is missing"),
        (replace(1, names=["Eve"]), "line 2 is not an entry"),
    ],
)
def test_a_changed_file_is_found(exported, change, expected):
    names = exported[2]
    rewrite(names, change)
    problems = found(names)
    assert any(line.startswith(expected) for line in problems), problems


def test_a_file_cut_short_with_its_head_is_found_by_an_anchor(exported):
    ledger, plain, _ = exported
    fourth = ledger.entries()[3]

    def shorten(lines):
        del lines[5:]
        lines[0] = edit(lines[0], head={"seq": 4, "hash": fourth.hash})

    rewrite(plain, shorten)
    assert found(plain) == []
    assert found(plain, [ledger.head()]) == ["entry 6: it is missing, but an anchor has its hash; the ledger ends at 4"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no exported ledger"),
        ("[1]\n", "no exported ledger"),
        ('{"format":"other","format_version":1}\n', "no exported ledger"),
        ('{"format":"memsinks-ledger","format_version":1,"head":{"seq":1,"hash":"x"}}\n', "no exported ledger"),
        ('{"format":"memsinks-ledger","format_version":2}\n', "format version 2.*install a newer one"),
        (b"\xff\xfe\n", "cannot be read as a ledger"),
        (None, "cannot be read as a ledger"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    file = tmp_path / "a.jsonl"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words):
        verify_file(file)


def test_an_export_replaces_nothing_and_appears_whole(exported, tmp_path):
    ledger, plain, _ = exported
    before = plain.read_bytes()
    with pytest.raises(InputError, match="already exists"):
        ledger.export(plain)
    with pytest.raises(InputError, match="does not exist"):
        ledger.export(tmp_path / "none" / "a.jsonl")
    with pytest.raises(LedgerError, match="no ledger yet"):
        Ledger.open(tmp_path / "new.sqlite").export(tmp_path / "b.jsonl")
    assert plain.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"ledger.sqlite", "plain.jsonl", "names.jsonl"}
