"""``memsinks keys`` and ``memsinks verify`` as a signer and a checker run them."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from memsinks.certificate import (
    Predicate,
    Reason,
    Request,
    VerificationCheck,
    certify,
    digests,
    read_signing_key,
    read_trust_file,
)
from memsinks.cli import main
from tests.commands import assert_refused, flat

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "[red]publisher A[/red] \x1b[2J:key:"


@pytest.fixture
def desk(tmp_path, capsys):
    """A signer's key, the checker's file of keys, a delivered directory and its certificate."""
    folder = tmp_path / "delivered"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    assert main(["keys", "new", "--output", str(tmp_path), "--name", "desk"]) == 0
    assert main(["keys", "trust", str(tmp_path / "trusted.json"), str(tmp_path / "desk.public.pem")]) == 0
    predicate = Predicate(
        removal="r-17",
        time=TIME,
        request=Request(kinds={"source": 1}, ids=(5, 6), target=HOSTILE),
        policies={"shared rows": "keep"},
        before={"model.safetensors": "0" * 64},
        after=digests(folder),
        rows_removed={0: 1200, 1: 34},
        verification=(VerificationCheck(name="gap closure", verdict="inconclusive", figure=0.5, interval=(0.1, 0.9)),),
        evidence={"plan.json": "a" * 64},
        code_version="0.1.0",
        complete=False,
        reasons=(Reason(kind="shared_rows_kept", count=3, detail="survivors use them"),),
    )
    certify(folder, predicate, [read_signing_key(tmp_path / "desk.private.pem")], tmp_path / "certificate.json")
    capsys.readouterr()
    return tmp_path


def verify(root, *more, trust="trusted.json"):
    return main(
        ["verify", str(root / "certificate.json"), str(root / "delivered"), "--trust", str(root / trust), *more]
    )


def key_id(root):
    return read_trust_file(root / "trusted.json")[0].public.id


def test_a_certificate_that_holds(desk, capsys):
    assert verify(desk) == 0
    shown = flat(capsys.readouterr().out)
    assert f"signed by desk, key {key_id(desk)}" in shown
    for words in (
        "removal: r-17",
        "time, as the signer states it: 2026-03-01T12:00:00Z",
        "source 1; sequence IDs 2",
        "rows removed: 1,234 in 2 layers",
        f"evidence: plan.json: sha256 {'a' * 64}",
        "gap closure inconclusive 0.5 [0.1, 0.9]",
        "The removal is NOT complete: - shared rows kept (3): survivors use them",
        "Earlier copies of the checkpoint",
    ):
        assert words in shown
    assert verify(desk, trust="desk.public.pem") == 0


def test_text_of_others_is_shown_as_it_is(desk, capsys):
    assert verify(desk) == 0
    assert r"target: [red]publisher A[/red] \x1b[2J:key:" in flat(capsys.readouterr().out)
    (desk / "delivered" / "\x1b[31mred").touch()
    assert verify(desk) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_certificate_that_does_not_hold(desk, capsys):
    (desk / "delivered" / "model.safetensors").write_bytes(b"others")
    (desk / "delivered" / "more.bin").touch()
    assert verify(desk) == 1
    shown = capsys.readouterr().out
    assert "- model.safetensors: its content is not the certified one\n" in shown
    assert "- more.bin: not among the certified files\n" in shown
    assert "r-17" not in shown
    assert main(["keys", "new", "--output", str(desk), "--name", "other"]) == 0
    assert verify(desk, trust="other.public.pem") == 1
    assert "no trusted key signed" in capsys.readouterr().out


def test_json(desk, capsys):
    assert verify(desk, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["format_version"], found["valid"], found["problems"]) == (
        "memsinks-verify",
        1,
        True,
        [],
    )
    assert found["predicate"]["request"]["target"] == HOSTILE
    assert found["signatures"][0]["verdict"] == "accepted"
    (desk / "delivered" / "model.safetensors").unlink()
    assert verify(desk, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [problem["kind"] for problem in found["problems"]] == ["missing"]
    (desk / "delivered" / os.fsdecode(b"a\xff\x1b")).touch()
    assert verify(desk, "--json") == 1
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "a\udcff\x1b: " in json.loads(shown)["problems"][0]["message"]


@pytest.mark.parametrize(
    ("command", "at", "code", "words"),
    [
        ("retire", "2026-03-01T12:00:00Z", 0, "signed by desk"),
        ("retire", "2026-03-01T11:59:59Z", 1, "retired at 2026-03-01T11:59:59Z"),
        ("revoke", "2026-03-01T12:00:01Z", 0, "warning: the key was revoked at 2026-03-01T12:00:01Z"),
        ("revoke", "2026-03-01T12:00:00Z", 1, "revoked at 2026-03-01T12:00:00Z"),
    ],
)
def test_retired_and_revoked_keys(desk, capsys, command, at, code, words):
    assert main(["keys", command, str(desk / "trusted.json"), key_id(desk)[:8], "--at", at]) == 0
    assert verify(desk) == code
    assert words in flat(capsys.readouterr().out)
    assert_refused(["keys", command, str(desk / "trusted.json"), key_id(desk)], ["already, since", at], desk, capsys)


def test_by_default_from_now_on(desk):
    before = datetime.now(UTC).replace(microsecond=0)
    assert main(["keys", "retire", str(desk / "trusted.json"), key_id(desk)]) == 0
    assert main(["keys", "revoke", str(desk / "trusted.json"), key_id(desk)]) == 0
    key = read_trust_file(desk / "trusted.json")[0]
    assert before <= key.not_after <= key.revoked_at <= datetime.now(UTC)
    assert verify(desk) == 0


def test_not_yet_valid(desk, capsys):
    more = ["--name", "the desk", "--not-before", "2026-03-02T00:00:00Z"]
    assert main(["keys", "trust", str(desk / "later.json"), str(desk / "desk.public.pem"), *more]) == 0
    assert verify(desk, trust="later.json") == 1
    shown = flat(capsys.readouterr().out)
    assert "signature of the desk" in shown
    assert "valid only from 2026-03-02T00:00:00Z" in shown


def test_encrypted_keys(desk, monkeypatch):
    monkeypatch.setenv("PHRASE", "correct horse")
    made = ["keys", "new", "--output", str(desk), "--name", "locked", "--passphrase-variable", "PHRASE"]
    assert main(made) == 0
    assert read_signing_key(desk / "locked.private.pem", passphrase_variable="PHRASE")


def test_what_is_refused(desk, capsys):
    trusted, public, private = (str(desk / name) for name in ("trusted.json", "desk.public.pem", "desk.private.pem"))
    assert_refused(["keys", "new", "--output", str(desk), "--name", "desk"], ["exists already"], desk, capsys)
    assert_refused(["keys", "new", "--output", str(desk / "no"), "--name", "a"], ["no folder"], desk, capsys)
    assert_refused(["keys", "trust", trusted, public], ["there already"], desk, capsys)
    assert_refused(["keys", "trust", trusted, private], ["private key", "public one"], desk, capsys)
    below = str(desk / "desk.public.pem" / "trusted.json")
    assert_refused(["keys", "trust", below, public], ["cannot be written"], desk, capsys)
    assert_refused(["keys", "trust", public, public], [public, "not JSON"], desk, capsys)
    assert_refused(["keys", "retire", trusted, "0" * 64], ["no key has an ID", "(desk)"], desk, capsys)
    assert_refused(["keys", "revoke", trusted, key_id(desk), "--at", "today"], ["not a time"], desk, capsys)
    assert_refused(["verify", trusted, str(desk / "none"), "--trust", public], ["not a folder"], desk, capsys)
    absent = ["verify", str(desk / "none"), str(desk / "delivered"), "--trust", public]
    assert_refused(absent, ["none", "cannot be read"], desk, capsys)


@pytest.mark.parametrize("arguments", [["verify", "--help"], ["keys", "--help"], ["keys", "new", "--help"]])
def test_no_library_of_models_is_imported(arguments):
    code = (
        f"import sys\nfrom memsinks.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "import memsinks.certificate\n"
        "print('LOADED', *sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "LOADED"
    assert "usage: memsinks" in found.stdout
