"""The walk of docs/removal.md, as an operator types it, with a ledger on a PostgreSQL server of our own."""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import flat
from ledger_behaviour import ENTRIES, run_sql, tamper
from postgresql_server import PASSWORD
from safetensors.torch import load_file
from sqlalchemy.exc import DBAPIError

pytestmark = pytest.mark.system

MEMSINKS = Path(sys.executable).with_name("memsinks")
PUBLISHERS = ("Ashford Press", "Birch House", "Cedar & Sons")
RUN = """
output = 'model'
corpus.path = 'corpus'
[model]
hidden = 32
layers = 2
heads = 2
width = 48
[exposures]
govern = 'sources'
govern_values = ['Ashford Press', 'Birch House', 'Cedar & Sons']
[exposures.upsample]
'Ashford Press' = 3
'Birch House' = 3
'Cedar & Sons' = 3
[sinks]
pool = 96
active = 16
[stream]
max_length = 64
[schedule]
batch_size = 8
[precision]
bf16 = false
"""
MORE = (
    RUN.split("[model]")[0].replace("'model'", "'more'")
    + "[model]\npretrained = 'model'\n[exp"
    + (RUN.split("[exp", 1)[1].replace("pool = 96\nactive = 16\n", ""))
)
# A model of seconds memorises nothing, so its figures decide nothing.
LENIENT = ["--recall", "9", "--survivors", "9", "--extraction", "1", "--prefix", "8", "--suffix", "8"]
STEPS = ["planned", "applying", "applied", "verified", "purged", "completed"]


class Desk:
    """Where the commands run: a folder, and a ledger that the environment names."""

    def __init__(self, folder: Path, ledger: str) -> None:
        self.folder, self.ledger = folder, ledger
        self.environment = os.environ | {
            "MEMSINKS_LEDGER": ledger,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            [MEMSINKS, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def do(self, code: int, *arguments: str, **options) -> str:
        """Run a command that has to end with this exit code; what it printed."""
        process = self.start(*arguments, **options)
        text, _ = process.communicate(timeout=120)
        assert process.returncode == code, text
        assert "Traceback" not in text, text
        assert PASSWORD not in text
        return flat(text)

    def forget(self, code: int, *arguments: str, **options) -> str:
        return self.do(code, "forget", "model", *arguments, **options)

    def state(self, *names: str) -> dict[str, str]:
        """SHA-256 of every file, hidden ones too, in some folders; default all. A lock that was held stays, empty."""
        files = [path for name in names or (".",) for path in (self.folder / name).rglob("*") if path.is_file()]
        files = [path for path in files if path.name != ".lock"]
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def kinds(self, removal: str) -> list[str]:
        """The ledger's entries of a removal, as the command shows them."""
        shown = self.do(0, "ledger", "show", "--removal", removal)
        return re.findall(rf"\d+Z (\w+) {removal}", shown)

    def records(self) -> list[Path]:
        return sorted((self.folder / "model-removals").iterdir(), key=lambda path: path.name)

    def unfinished(self) -> Path:
        (found,) = self.folder.glob(".model.removal-*")
        return found


@pytest.fixture
def desk(place, tmp_path):
    """Two keys, and a tiny model of three publishers and other text."""
    made = Desk(tmp_path, place)
    words = [f"{a}{b}{c}" for a in "bdfgklmprst" for b in "aeiou" for c in "lnrst"]
    with (tmp_path / "texts.jsonl").open("w") as file:
        for i in range(60):
            text = " ".join(words[(i * 37 + j * (i + 11)) % len(words)] for j in range(70))
            source = PUBLISHERS[i % 3] if i < 12 else "web"
            file.write(json.dumps({"id": f"t{i}", "source": source, "text": text, "out": i >= 50}) + "\n")
    (tmp_path / "keys").mkdir()
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "more.toml").write_text(MORE)
    columns = ["--source-column", "source", "--validation-column", "out"]
    made.do(0, "prepare", "texts.jsonl", "--output", "corpus", "--vocab-size", "400", *columns)
    made.do(0, "train", "run.toml")
    for name in ("desk", "stranger"):
        made.do(0, "keys", "new", "--output", "keys", "--name", name)
    return made


def test_a_walk_through_removals(desk):
    planned(desk)
    carried_out(desk)
    exported(desk)
    stopped_and_finished(desk)
    trained_further(desk)
    tampered(desk)


def planned(desk: Desk) -> None:
    """Without a decision and --yes nothing happens."""
    before = desk.state()
    shown = desk.forget(0, "--sources", "Birch House")
    assert "4 sequence IDs and 4 documents of the request" in shown
    assert re.search(r"8 IDs stay. On average one loses \d+\.\d% of its rows", shown)
    assert re.search(r"Cedar & Sons +4 +\d+\.\d%", shown)
    assert "Nothing was changed. Decide --shared-rows, and give --yes" in shown
    refused = desk.forget(2, "--sources", "Birch House", "--yes")
    assert "the plan needs decisions before it can be carried out: --shared-rows" in refused
    assert "did you mean 'Birch House'?" in desk.forget(2, "--sources", "Brich House")
    assert desk.state() == before
    assert "there is no ledger yet" in desk.do(2, "ledger", "show")


def carried_out(desk: Desk) -> None:
    """Signed, recorded, and verified with the key that is trusted alone."""
    people = ["--requester", "A. Birch", "--approver", "G. Judge", "--operator", "O. Perator"]
    why = ["--reason", "the contract ended", "--sign", "keys/desk.private.pem"]
    request = ["--sources", "Birch House", "--shared-rows", "remove"]
    shared = desk.state("model")["model/model.safetensors"]
    shown = desk.forget(0, *request, *LENIENT, *people, *why, "--yes")
    assert "Verification: pass" in shown
    assert desk.state("model")["model/model.safetensors"] == shared
    (record,) = desk.records()
    assert desk.kinds(record.name) == STEPS
    assert "entries: 6; whole" in desk.do(0, "ledger", "verify")
    assert "approver: G. Judge" in desk.do(0, "ledger", "show")
    certificate = f"model-removals/{record.name}/certificate.json"
    valid = desk.do(0, "verify", certificate, "model", "--trust", "keys/desk.public.pem")
    assert "certificate.json holds" in valid
    assert "signed by desk" in valid
    other = desk.do(1, "verify", certificate, "model", "--trust", "keys/stranger.public.pem")
    assert "no trusted key signed" in other
    again = desk.forget(2, "--sources", "Birch House")
    assert f"was removed from model before ({record.name})" in again


def exported(desk: Desk) -> None:
    """The stock model is the shared weights, also if the sinks of what was removed are asked for."""
    fold = ["--mode", "chosen", "--sources", "Birch House", "--corpus", "corpus"]
    assert "a stock LlamaForCausalLM checkpoint" in desk.do(0, "export", "model", "stock", *fold)
    ours, stock = (load_file(desk.folder / name / "model.safetensors") for name in ("model", "stock"))
    assert ours.keys() == stock.keys()
    assert all(ours[name].equal(stock[name]) for name in ours)


def stopped_and_finished(desk: Desk) -> None:
    """A second removal meets a full disk, then a kill, and is finished."""
    before = desk.state("model", "model-run", "model-removals")
    room = (desk.folder / "model" / "sinks.safetensors").stat().st_size // 2
    request = ["--sources", "Cedar & Sons", "--shared-rows", "remove", *LENIENT, "--yes"]
    full = desk.forget(
        2, *request, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    )
    assert "no space left" in full
    assert desk.state("model", "model-run", "model-removals") == before
    work = desk.unfinished()
    assert [path.name for path in work.iterdir()] == ["plan.json"]

    going = desk.start("forget", "model", "--resume")
    end = time.monotonic() + 120
    while not (work / "result").exists():
        assert going.poll() is None, going.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    going.send_signal(signal.SIGKILL)
    going.communicate()
    assert not (work / "verification.json").exists()
    assert desk.state("model", "model-run", "model-removals") == before

    assert "Verification: pass" in desk.forget(0, "--resume", "--sign", "keys/desk.private.pem")
    assert not list(desk.folder.glob(".model.*"))
    record = desk.records()[-1]
    assert desk.kinds(record.name) == STEPS
    assert "entries: 12; whole" in desk.do(0, "ledger", "verify")
    first, second = (f"model-removals/{path.name}/certificate.json" for path in desk.records())
    assert "holds: " in desk.do(0, "verify", second, "model", "--trust", "keys/desk.public.pem")
    assert "does not hold" in desk.do(1, "verify", first, "model", "--trust", "keys/desk.public.pem")


def trained_further(desk: Desk) -> None:
    """Both publishers' text is left out of a training that goes on, and counted."""
    desk.do(0, "train", "more.toml")
    log = (desk.folder / "more-run" / "run.log").read_text()
    # Eight documents, three times each.
    assert "24 exposures of text that was removed from the pretrained model are left out" in log
    assert json.loads((desk.folder / "more" / "run.json").read_text())["refused_exposures"] == 24


def tampered(desk: Desk) -> None:
    """A tensor, and the ledger."""
    shutil.copytree(desk.folder / "model", desk.folder / "sent" / "model")
    file = desk.folder / "sent" / "model" / "sinks.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    certificate = f"model-removals/{desk.records()[-1].name}/certificate.json"
    found = desk.do(1, "verify", certificate, "sent/model", "--trust", "keys/desk.public.pem")
    assert "sinks.safetensors: its content is not the certified one" in found
    refused = desk.do(2, "forget", "sent/model", "--sources", "Ashford Press")
    assert "was altered after it was saved" in refused

    change = f"UPDATE {ENTRIES} SET body = '{{}}' WHERE seq = 6"
    with pytest.raises(DBAPIError, match="append-only"):
        run_sql(desk.ledger, change)
    assert "entries: 12; whole" in desk.do(0, "ledger", "verify")
    tamper(desk.ledger, change)
    assert "entry 6: its hash is not that of its fields" in desk.do(1, "ledger", "verify")
