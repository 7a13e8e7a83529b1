"""``memsinks ledger`` as a user runs it."""

import subprocess
import sys

import pytest
from commands import assert_refused, flat
from ledger_behaviour import ENTRIES, tamper

from memsinks.cli import main
from memsinks.ledger import Ledger

ID, OTHER = "00000000000000ff", "0000000000000001"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; its exit code and what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEMSINKS_LEDGER", raising=False)

    def run(*arguments):
        code = main(["ledger", *arguments])
        return code, capsys.readouterr().out

    return run


def test_a_note_a_denial_and_what_they_show(run):
    assert run("note", "r1", "the contract ended", "--operator", "Ada Lovelace")[0] == 0
    assert run("deny", ID, OTHER, "--reason", "request 7", "--until", "2999-01-01T00:00:00Z")[0] == 0
    code, printed = run("allow", OTHER, "--reason", "settled")
    assert code == 0
    assert "not on the deny-list" not in printed
    assert f"were not on the deny-list: {OTHER}" in run("allow", OTHER, "--reason", "again")[1]
    assert Ledger.open("ledger.sqlite").denied() == {0xFF: "request 7"}
    shown = run("show")[1]
    for words in ("noted r1 operator: Ada Lovelace text: the contract ended", "denied - ids:", "reason: request 7"):
        assert words in flat(shown)
    assert "denied" not in run("show", "--removal", "r1")[1]


def test_an_erased_name_shows_as_erased(run):
    run("note", "r1", "x", "--operator", "Ada Lovelace")
    assert run("erase", "Bob") == (1, "names erased: 0\n")
    assert run("erase", "ada lovelace") == (0, "names erased: 1\n")
    assert "operator: erased" in run("show")[1]
    assert "Lovelace" not in run("show")[1]


def test_names_expire(run):
    run("note", "r1", "x", "--operator", "Ada", "--keep-days", "0")
    assert run("expire") == (0, "names erased: 0\n")
    tamper("ledger.sqlite", "UPDATE memsinks_ledger_people SET keep_until = '2020-01-01'")
    assert run("expire") == (0, "names erased: 1\n")
    assert run("verify")[0] == 0


def test_verify_tells_what_is_whole_and_what_is_not(run):
    for number in range(3):
        run("note", "r1", f"note {number}")
    entries = Ledger.open("ledger.sqlite").entries()
    code, printed = run("verify", "--anchor", *(str(entry.head) for entry in entries))
    assert (code, printed) == (0, f"ledger.sqlite: entries: 3; whole; last {entries[2].head}\n")
    code, printed = run("verify", "--anchor", f"2:{'0' * 64}")
    assert code == 1
    assert "entry 2: an anchor says" in printed
    tamper(
        "ledger.sqlite", f"UPDATE {ENTRIES} SET removal = 'r2' WHERE seq = 2", f"DELETE FROM {ENTRIES} WHERE seq = 3"
    )
    code, printed = run("verify")
    assert code == 1
    assert [line.partition(",")[0] for line in printed.splitlines()] == [
        "entry 2: its hash is not that of its fields: one of them was changed",
        "entry 3: it is missing at the end: the record of the last entry (head) has more",
        "ledger.sqlite: problems: 2",
    ]


def test_a_ledger_without_its_head_is_verified_too(run):
    run("note", "r1", "x")
    tamper("ledger.sqlite", "DELETE FROM memsinks_ledger_head")
    code, printed = run("verify")
    assert code == 1
    assert "the record of the last entry (head) is missing" in printed


def test_a_file_is_verified_without_the_database(run, tmp_path):
    run("note", "r1", "x", "--operator", "Ada")
    assert run("export", "--output", "a.jsonl")[0] == 0
    assert run("export", "--output", "b.jsonl", "--names")[0] == 0
    (tmp_path / "ledger.sqlite").unlink()
    for file in ("a.jsonl", "b.jsonl"):
        assert run("verify", "--file", file)[0] == 0
    (tmp_path / "b.jsonl").write_text((tmp_path / "b.jsonl").read_text().replace('"Ada"', '"Eve"'))
    code, printed = run("verify", "--file", "b.jsonl")
    assert code == 1
    assert "entry 1: the name, role or salt of its operator was changed" in printed


def test_the_place_comes_from_an_option_or_the_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSINKS_LEDGER", "team.sqlite")
    run("note", "r1", "x")
    run("note", "r1", "x", "--ledger", "own.sqlite")
    assert {file.name for file in tmp_path.iterdir()} == {"team.sqlite", "own.sqlite"}


def test_help_shows_no_password(run, monkeypatch, capsys):
    monkeypatch.setenv("MEMSINKS_LEDGER", "postgresql://desk:hunter2@127.0.0.1:1/governance")
    with pytest.raises(SystemExit):
        main(["ledger", "show", "--help"])
    assert "hunter2" not in capsys.readouterr().out
    assert main(["ledger", "show"]) == 2
    error = capsys.readouterr().err
    assert "desk:***@127.0.0.1" in error
    assert "hunter2" not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], ["there is no ledger yet", "MEMSINKS_LEDGER"]),
        (["verify"], ["there is no ledger yet"]),
        (["export", "--output", "a.jsonl"], ["there is no ledger yet"]),
        (["erase", "Ada"], ["there is no ledger yet"]),
        (["deny", "12", "--reason", "x"], ["'12'", "16 hexadecimal digits"]),
        (["deny", ID, "--reason", "x", "--until", "tomorrow"], ["'tomorrow' is no time"]),
        (["note", "r1", "asked by Ada", "--operator", "Ada"], ["has the name of the operator in it"]),
        (["note", "r1", "x", "--ledger", "none/a.sqlite"], ["does not exist"]),
        (["verify", "--anchor", "1"], ["SEQ:HASH"]),
        (["verify", "--file", "a.jsonl", "--ledger", "a.sqlite"], ["give one of them"]),
        (["note", "r1", "x", "--keep-days", "9"], ["give --operator too"]),
    ],
)
def test_bad_use_is_refused_and_writes_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEMSINKS_LEDGER", raising=False)
    assert_refused(["ledger", *arguments], words, tmp_path, capsys)


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("from memsinks.cli import main; main(['ledger', 'note', 'r1', 'x'])", {"torch", "transformers"}),
        ("import memsinks.ledger, memsinks.cli.ledger", {"torch", "transformers", "sqlalchemy"}),
    ],
)
def test_imports_are_light(code, heavy, tmp_path):
    code += f"; import sys; print('heavy:', *sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1].split() == ["heavy:"]
