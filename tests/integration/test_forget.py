"""``memsinks forget`` as an operator runs it: a dry run, an approved plan, a certificate, and what must not happen."""

import json
import shutil

import pytest
from commands import assert_refused, flat

from memsinks.cli import main
from memsinks.corpus import Corpus
from memsinks.ids import format_id
from memsinks.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")

RUN = """
output = '{output}'
[corpus]
path = '{corpus}'
[model]
hidden = 32
layers = 2
heads = 2
width = 48
[exposures]
govern = 'sources'
govern_values = ['ashford', 'birch', 'cedar']
[exposures.upsample]
ashford = 3
birch = 3
cedar = 3
[sinks]
layers = "all"
allocation = 'disjoint'
active = 8
[stream]
max_length = 64
[schedule]
batch_size = 8
"""
LENIENT = ["--recall", "9", "--survivors", "9", "--prefix", "8", "--suffix", "8"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("forget")
    words = [f"{a}{b}{c}" for a in "bdfgklmprst" for b in "aeiou" for c in "lnrst"]
    with (root / "texts.jsonl").open("w") as file:
        for i in range(60):
            text = " ".join(words[(i * 37 + j * (i + 11)) % len(words)] for j in range(70))
            source = ("ashford", "birch", "cedar")[i % 3] if i < 12 else "web"
            row = {"id": f"t{i}", "source": source, "ends": 2020 + i, "text": text, "out": i >= 50}
            file.write(json.dumps(row) + "\n")
    prepare = ["prepare", str(root / "texts.jsonl"), "--output", str(root / "corpus"), "--vocab-size", "400"]
    assert main([*prepare, "--source-column", "source", "--metadata", "ends", "--validation-column", "out"]) == 0
    (root / "run.toml").write_text(RUN.format(output=root / "model", corpus=root / "corpus"))
    assert main(["train", str(root / "run.toml")]) == 0
    assert main(["keys", "new", "--output", str(root), "--name", "desk"]) == 0
    return root


@pytest.fixture
def desk(home, tmp_path, monkeypatch):
    """A copy of the run, to remove from, and a ledger."""
    for name in ("model", "model-run"):
        shutil.copytree(home / name, tmp_path / name)
    monkeypatch.setenv("MEMSINKS_LEDGER", str(tmp_path / "ledger.sqlite"))
    return tmp_path


def forget(desk, *options):
    return main(["forget", str(desk / "model"), *options])


def test_without_yes_nothing_is_changed(desk, capsys):
    before = sorted((p, p.stat().st_mtime_ns) for p in desk.rglob("*"))
    assert forget(desk, "--sources", "birch") == 0
    shown = flat(capsys.readouterr().out)
    assert "4 sequence IDs and 4 documents of the request" in shown
    assert "None of them loses a row" in shown
    assert "model-run/checkpoint-" in shown
    assert "Nothing was changed. Give --yes to carry this out" in shown
    assert sorted((p, p.stat().st_mtime_ns) for p in desk.rglob("*")) == before


def test_an_approved_plan_is_carried_out_certified_and_recorded(desk, home, capsys):
    assert forget(desk, "--sources", "birch", *LENIENT, "--save-plan", str(desk / "plan.json")) == 0
    people = ["--requester", "Birch House", "--approver", "A. Judge", "--operator", "O. Perator"]
    why = ["--reason", "the contract ended", "--legal-basis", "contract C-7"]
    sign = ["--sign", str(home / "desk.private.pem")]
    assert forget(desk, "--plan", str(desk / "plan.json"), "--yes", *people, *why, *sign) == 0
    shown = flat(capsys.readouterr().out)
    assert "Verification: pass" in shown
    (record,) = (desk / "model-removals").iterdir()
    certificate = str(record / "certificate.json")
    trust = ["--trust", str(home / "desk.public.pem")]
    assert main(["verify", certificate, str(desk / "model"), *trust, "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["valid"]
    ledger = Ledger.open(desk / "ledger.sqlite")
    kinds = [entry.kind for entry in ledger.entries(removal=record.name)]
    assert kinds == ["planned", "applying", "applied", "verified", "purged", "completed"]
    assert main(["ledger", "verify"]) == 0
    names = {person.name for person in ledger.names().values()}
    assert names == {"Birch House", "A. Judge", "O. Perator"}
    # A tampered tensor is found by the certificate, and by the next removal.
    data = bytearray((desk / "model" / "sinks.safetensors").read_bytes())
    data[-1] ^= 1
    (desk / "model" / "sinks.safetensors").write_bytes(data)
    assert main(["verify", certificate, str(desk / "model"), *trust]) == 1
    assert "sinks.safetensors" in capsys.readouterr().out
    refused = ["forget", str(desk / "model"), "--sources", "cedar"]
    assert_refused(refused, ["was altered after it was saved"], desk / "model", capsys)


def test_an_approved_plan_of_another_state_is_refused(desk, capsys):
    assert forget(desk, "--documents", "t0", *LENIENT, "--save-plan", str(desk / "first.json")) == 0
    assert forget(desk, "--documents", "t3", *LENIENT, "--yes") == 0
    capsys.readouterr()
    again = ["forget", str(desk / "model"), "--plan", str(desk / "first.json"), "--yes"]
    assert_refused(again, ["has changed since removal"], desk / "model", capsys)


def test_a_query_finds_what_ended(desk, capsys):
    assert forget(desk, "--where", "ends<2023", "source!=cedar", *LENIENT, "--yes") == 0
    assert "2 sequence IDs and 2 documents" in flat(capsys.readouterr().out)


def test_everything_can_go(desk, capsys):
    assert forget(desk, "--everything", "--recall", "9", "--prefix", "8", "--suffix", "8", "--yes") == 0
    assert "Nobody has sinks after this" in flat(capsys.readouterr().out)
    sinks = json.loads((desk / "model" / "sinks.json").read_text())
    assert sinks["allocation"]["removed"]["rows"] == [96, 96]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sources", "brich"], "did you mean 'birch'"),
        ([], "nothing is named to remove"),
        (["--everything", "--sources", "birch"], "give one of the two"),
        (["--documents", "t55"], "held out for validation"),
        (["--documents", "t20"], "trained into shared weights alone"),
        (["--sources", "birch", "--shared-rows", "keep"], "touches nothing that it would decide"),
        (["--sources", "birch", "--prefix", "0"], "prefix is 0"),
        (["--resume"], "there is no unfinished removal"),
        (["--abandon"], "there is no unfinished removal"),
        (["--plan", "plan.json", "--sources", "birch"], "leave the other options of the plan out"),
        (["--sources", "birch", "--yes", "--sign", "nothing.pem"], "nothing.pem"),
        (["--sources", "birch", "--yes", "--reason", "asked by Ann", "--requester", "Ann"], "could not be erased"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_changed(desk, capsys, options, message):
    assert_refused(["forget", str(desk / "model"), *options], [message], desk, capsys)


def test_ids_are_taken_as_hexadecimal_digits(desk, home, capsys):
    corpus = Corpus.open(home / "corpus")
    wanted = format_id(int(corpus.sequence_ids[corpus.index("t4")]))
    assert forget(desk, "--ids", wanted) == 0
    assert "1 sequence ID and 1 document" in flat(capsys.readouterr().out)
