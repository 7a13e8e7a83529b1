"""Removals carried out: what is on disk and in the ledger afterwards, also when they are stopped on the way."""

import errno
import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import memsinks
from memsinks.checkpoint.card import CARD, CardFacts, write_card
from memsinks.checkpoint.lineage import Lineage
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.corpus.files import file_digest, folder_digests
from memsinks.errors import CheckpointError, ConfigError, InputError, SequenceIdError
from memsinks.ids import parse_id, to_tensor
from memsinks.ledger import Ledger
from memsinks.removal import steps
from memsinks.removal.carry_out import Request, abandon, begin, go_on, unfinished
from memsinks.removal.identity import compare
from memsinks.removal.plan import make_plan
from memsinks.removal.policy import Policy
from memsinks.removal.staging import seal, write
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.thresholds import Thresholds
from memsinks.removal.verification import Check
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.excision import SinkFiles

# A few dozen steps memorise nothing, so that the tests of the files need not wait for figures.
LENIENT = Thresholds(recall=9.0, extraction=1.0, survivors=9.0, prefix=8, suffix=8)
CEDAR = Target(documents=("cedar-0", "cedar-3"))
NOBODY = Request(people={})


def quiet(message: str) -> None:
    pass


def planned_of(run, corpus, target=CEDAR, policy=None, thresholds=LENIENT):
    return make_plan(Subject.open(run, corpus.path), target, policy, thresholds)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "ledger.sqlite")


@pytest.fixture
def unmeasured(monkeypatch):
    """Measuring takes a second and leaves nothing on disk."""
    passed = Check(name="nothing", verdict="pass", figure=0.0, threshold=0.0, says="measured nothing")
    monkeypatch.setattr(steps, "measure_before", lambda *args, **kwargs: None)
    monkeypatch.setattr(steps, "measure", lambda *args, **kwargs: [passed])


def kinds(ledger, removal):
    return [entry.kind for entry in ledger.entries(removal=removal)]


def test_the_checkpoint_is_replaced_and_everything_is_recorded(run_of, corpus, ledger, tmp_path):
    run = run_of()
    before, off = folder_digests(run), load_file(run / "model.safetensors")
    (run / "report.html").write_text(corpus.text(corpus.index("cedar-0")))
    planned = planned_of(run, corpus)
    request = Request(
        reason="contract ended", legal_basis="C-7", people={"requester": "Ada L.", "operator": "Bob"}, keep_days=30
    )
    outcome = begin(planned, ledger, request, quiet)
    assert outcome.accepted
    assert (outcome.folder, unfinished(run)) == (run, None)
    # Only what a removal changes has changed, and the quotation is gone.
    after = folder_digests(run)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"sinks.safetensors", "sinks.json", "lineage.json", "removed.parquet", "README.md"}
    assert all(torch.equal(t, off[name]) for name, t in load_file(run / "model.safetensors").items())
    model = memsinks.load(run)
    assert all(len(p) == 8 * 12 for sinks in sinks_of(model) for p in sinks.parameters())
    gone = to_tensor([parse_id(planned.plan.ids[0])])
    with pytest.raises(SequenceIdError, match="was removed"):
        model.train()(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]]), sequence_ids=gone)
    # Resume checkpoints are purged; the folder beside it keeps its log.
    assert not list((tmp_path / "disjoint-run").glob("checkpoint-*"))
    assert (tmp_path / "disjoint-run" / "run.log").is_file()
    assert kinds(ledger, planned.plan.id) == ["planned", "applying", "applied", "verified", "purged", "completed"]
    assert not ledger.verify()
    first = ledger.entries(removal=planned.plan.id)[0]
    assert first.body["plan_sha256"] == file_digest(outcome.record / "plan.json")
    assert "Ada" not in json.dumps(first.body)
    lineage = Lineage.read(run)
    (removal,) = lineage.removals
    assert (removal.before, removal.after) == (before["sinks.safetensors"], after["sinks.safetensors"])
    assert removal.ledger == (2, ledger.entries()[1].hash)
    assert lineage.refuses(corpus.sequence_ids, corpus.content_ids).sum() == 2


def test_two_removals_in_either_order_give_the_same_checkpoint(run_of, corpus, ledger, unmeasured, tmp_path):
    targets = [Target(documents=("cedar-0",)), Target(sources=("birch",)), Target(documents=("ashford-4",))]
    found = []
    for order in (targets, targets[::-1]):
        for kind, policy in (("disjoint", {}), ("hashed", {"shared_rows": "keep"})):
            run = run_of(kind)
            for target in order:
                own = {"shared_ids": "remove", "near_copies": "keep"} if target.sources else {}
                begin(planned_of(run, corpus, target, Policy(**policy, **own)), ledger, NOBODY, quiet)
            digests = folder_digests(run)
            for name in ("lineage.json", CARD):  # say in which order
                digests.pop(name)
            found.append(digests)
            for folder in (run, tmp_path / f"{kind}-run"):
                shutil.rmtree(folder)
    assert found[:2] == found[2:]


def test_what_was_removed_cannot_be_removed_again(run_of, corpus, ledger, unmeasured):
    run = run_of()
    begin(planned_of(run, corpus), ledger, NOBODY, quiet)
    with pytest.raises(InputError, match=r"was removed from .* before"):
        planned_of(run, corpus)
    plan = planned_of(run, corpus, Target(sources=("cedar",)), Policy(near_copies="keep")).plan
    assert (plan.documents, plan.gone_before) == (3, 2)


def test_memory_in_shared_weights_fails_and_the_result_is_left_aside(run_of, corpus, ledger, tmp_path):
    run = run_of("leaky")
    before = folder_digests(run)
    planned = planned_of(run, corpus, thresholds=Thresholds(prefix=16, suffix=16))
    outcome = begin(planned, ledger, NOBODY, quiet)
    verdicts = {check.name: check.verdict for check in outcome.verification.checks}
    assert verdicts["recall, sinks off"] == "fail"
    assert verdicts["removed rows"] == verdicts["surviving rows"] == verdicts["other files"] == "pass"
    assert not outcome.accepted
    assert folder_digests(run) == before
    assert list((tmp_path / "leaky-run").glob("checkpoint-*")), "nothing is purged"
    assert kinds(ledger, planned.plan.id)[-1] == "failed"
    assert outcome.folder.name == f"leaky-not-verified-{planned.plan.id}"
    with pytest.warns(UserWarning, match="its verification did not pass"):
        memsinks.load(outcome.folder)
    assert (outcome.folder / NOT_VERIFIED).is_file()
    assert unfinished(run) is None


def test_an_inconclusive_result_can_be_accepted_and_a_failed_one_cannot(run_of, corpus, ledger, monkeypatch):
    def check(verdict):
        found = Check(name="recall", verdict=verdict, figure=None, threshold=0.1, says="cannot be told")
        monkeypatch.setattr(steps, "measure", lambda *args, **kwargs: [found])

    run = run_of()
    accepting = Request(people={}, accept_inconclusive=True)
    check("fail")
    assert not begin(planned_of(run, corpus), ledger, accepting, quiet).accepted
    check("inconclusive")
    assert not begin(planned_of(run, corpus), ledger, NOBODY, quiet).accepted
    outcome = begin(planned_of(run, corpus), ledger, accepting, quiet)
    assert outcome.accepted
    assert outcome.verification.verdict == "inconclusive"


def test_decisions_come_first(run_of, corpus, ledger):
    run = run_of()
    with pytest.raises(ConfigError, match="--shared-ids, --near-copies"):
        begin(planned_of(run, corpus, Target(sources=("birch",))), ledger, NOBODY, quiet)
    assert not ledger.exists()
    assert unfinished(run) is None


def test_without_room_nothing_is_begun(run_of, corpus, ledger, monkeypatch):
    run = run_of()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(InputError, match="make room"):
        begin(planned_of(run, corpus), ledger, NOBODY, quiet)
    assert unfinished(run) is None


def test_a_ledger_that_cannot_be_written_stops_everything(run_of, corpus, tmp_path):
    run = run_of()
    before = folder_digests(run)
    (tmp_path / "text.sqlite").write_text("this is no database, and it is long enough to be read as one" * 20)
    with pytest.raises(memsinks.MemsinksError):
        begin(planned_of(run, corpus), Ledger.open(tmp_path / "text.sqlite"), NOBODY, quiet)
    assert folder_digests(run) == before
    assert unfinished(run) is None


def test_another_removal_waits_for_the_unfinished_one(run_of, corpus, ledger, unmeasured, monkeypatch):
    run = run_of()
    monkeypatch.setattr(steps, "compare", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begin(planned_of(run, corpus), ledger, NOBODY, quiet)
    with pytest.raises(InputError, match="a removal is unfinished"):
        begin(planned_of(run, corpus, Target(documents=("ashford-4",))), ledger, NOBODY, quiet)
    before = folder_digests(run)
    removal = abandon(run, ledger)
    assert ledger.removals()[removal] == "abandoned"
    assert folder_digests(run) == before
    with pytest.raises(InputError, match="no unfinished removal"):
        go_on(run, ledger, quiet, corpus=corpus.path)


CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"}


def killed_at(number: int, home: Path, run: Path, corpus, planned) -> bool:
    """Whether a process that removes was killed right before its n-th change of a file."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    seen = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in CHANGES and any(str(home) in str(a) for a in arguments):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        begin(planned, Ledger.open(home / "ledger.sqlite"), NOBODY, quiet)
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_killed_at_any_change_of_a_file_it_can_be_finished(run_of, corpus, unmeasured, tmp_path, monkeypatch):
    run = run_of()
    (run / "report.html").write_text(corpus.text(corpus.index("cedar-0")))
    kept = tmp_path.parent / f"{tmp_path.name}-kept"
    shutil.copytree(tmp_path, kept)

    def restore() -> None:
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)

    final, states = None, set()
    for number in range(1, 200):
        restore()
        planned = planned_of(run, corpus)
        killed = killed_at(number, tmp_path, run, corpus, planned)
        ledger = Ledger.open(tmp_path / "ledger.sqlite")
        if killed and unfinished(run) is not None:
            removals = ledger.removals()
            if planned.plan.id in removals:
                states.add(removals[planned.plan.id])
                go_on(run, ledger, quiet, corpus=corpus.path)
            else:
                abandon(run, ledger)
                begin(planned, ledger, NOBODY, quiet)
        elif killed and ledger.removals().get(planned.plan.id) != "completed":
            begin(planned, ledger, NOBODY, quiet)
        assert kinds(ledger, planned.plan.id) == ["planned", "applying", "applied", "verified", "purged", "completed"]
        assert not ledger.verify()
        digests = folder_digests(run)
        for name in ("lineage.json", CARD):  # have the time
            digests.pop(name)
        final = final or digests
        assert digests == final
        left = {path.name for path in tmp_path.iterdir() if ".finished-removal-" not in path.name}
        assert left == {"disjoint", "disjoint-run", "disjoint-removals", "ledger.sqlite"}, number
        assert not list((tmp_path / "disjoint-run").glob("checkpoint-*"))
        if not killed:
            break
    assert number > 30
    assert {"planned", "applying", "applied", "verified", "purged", "completed"} <= states | {"planned", "completed"}


def test_the_model_card_is_written_anew_for_what_is_left(trained, corpus, ledger, tmp_path, unmeasured):
    run = tmp_path / "disjoint"
    shutil.copytree(trained("disjoint"), run)
    write_card(run, CardFacts(config=SinkFiles.open(run).config, sources=["ashford", "birch", "cedar"]))
    before = (run / CARD).read_bytes()
    outcome = begin(
        planned_of(run, corpus, Target(sources=("cedar",)), Policy(near_copies="keep")), ledger, NOBODY, quiet
    )
    assert outcome.accepted
    text = (run / CARD).read_text()
    assert f"`{outcome.plan.id}`" in text
    # The old one was the same file under two names until it was replaced.
    assert text.encode() != before
    assert re.findall(r"^- `(\w+)`$", text, re.MULTILINE) == ["ashford", "birch"]


def test_a_card_that_is_not_ours_is_kept_and_compared_as_any_file(run_of, corpus, ledger, unmeasured):
    run = run_of()
    (run / CARD).write_text("# Ours\n")
    assert begin(planned_of(run, corpus), ledger, NOBODY, quiet).accepted
    assert (run / CARD).read_text() == "# Ours\n"


def test_on_a_full_disk_the_checkpoint_stays_and_the_removal_can_be_finished_later(
    run_of, corpus, ledger, unmeasured, monkeypatch
):
    run = run_of()
    before = folder_digests(run)
    planned = planned_of(run, corpus)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("memsinks.sinks.excision.os.fsync", full)
        with pytest.raises(InputError, match="no space left"):
            begin(planned, ledger, NOBODY, quiet)
    assert folder_digests(run) == before
    assert kinds(ledger, planned.plan.id) == ["planned", "applying"]
    assert [path.name for path in unfinished(run).iterdir()] == ["plan.json"]
    assert go_on(run, ledger, quiet, corpus=corpus.path).accepted
    assert kinds(ledger, planned.plan.id)[-1] == "completed"


def test_the_new_sinks_are_hashed_while_the_old_checkpoint_is_measured(run_of, corpus, ledger, unmeasured, monkeypatch):
    measuring, hashed, digest = threading.Event(), threading.Event(), steps.file_digest

    def slow(path):
        if path.parent.name == steps.DRAFT:
            assert measuring.wait(30), "nothing goes on beside hashing"
            hashed.set()
        return digest(path)

    def measured(*args, **kwargs):
        measuring.set()
        assert hashed.wait(30)

    monkeypatch.setattr(steps, "file_digest", slow)
    monkeypatch.setattr(steps, "measure_before", measured)
    assert begin(planned_of(run_of(), corpus), ledger, NOBODY, quiet).accepted


def alter(folder: Path) -> bytes:
    """Change the last bit of the sinks; returns what they were."""
    file = folder / "sinks.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return data


def test_sinks_altered_before_they_are_hashed_do_not_pass(run_of, corpus, ledger, unmeasured, monkeypatch):
    run = run_of()
    write = steps.write

    def altered(planned, draft):
        write(planned, draft)
        alter(draft)

    monkeypatch.setattr(steps, "write", altered)
    outcome = begin(planned_of(run, corpus), ledger, NOBODY, quiet)
    assert not outcome.accepted
    failed = [check.name for check in outcome.verification.checks if check.verdict == "fail"]
    assert failed == ["surviving rows"]


def test_sinks_altered_before_they_are_measured_are_refused(run_of, corpus, ledger, monkeypatch):
    run = run_of()
    before = folder_digests(run)

    def altered(plan, before, result):
        alter(result)
        return []

    monkeypatch.setattr(steps, "compare", altered)
    with pytest.raises(CheckpointError, match="was altered after it was saved"):
        begin(planned_of(run, corpus), ledger, NOBODY, quiet)
    assert folder_digests(run) == before
    assert abandon(run, ledger)


def test_sinks_altered_before_the_record_are_noticed_while_the_old_checkpoint_is_there(
    run_of, corpus, ledger, unmeasured, monkeypatch
):
    run = run_of()
    before, planned, found = folder_digests(run), planned_of(run, corpus), {}

    def altered(planned, baseline, result, **options):
        found["data"] = alter(result)
        return [Check(name="nothing", verdict="pass", figure=0.0, threshold=0.0, says="measured nothing")]

    monkeypatch.setattr(steps, "measure", altered)
    for attempt in (lambda: begin(planned, ledger, NOBODY, quiet), lambda: go_on(run, ledger, quiet)):
        with pytest.raises(
            CheckpointError, match=r"not the one of the ledger's entry 'applied'.* as it was is"
        ) as caught:
            attempt()
    assert folder_digests(Path(str(caught.value).rsplit(" ", 1)[1])) == before
    assert kinds(ledger, planned.plan.id)[-1] == "verified"
    (run / "sinks.safetensors").write_bytes(found["data"])
    assert go_on(run, ledger, quiet).accepted
    digests = {ledger.entries()[number].body["sinks_after"] for number in (2, -1)}
    assert digests == {file_digest(run / "sinks.safetensors")}


def test_a_table_other_than_the_planned_one_does_not_pass(run_of, corpus):
    """Its rows are whole, but another ID's are gone."""
    run = run_of()
    other, planned = (planned_of(run, corpus, Target(documents=(name,))) for name in ("ashford-4", "cedar-0"))
    result = run.with_name("result")
    write(other, result)
    seal(other, result, file_digest(result / "sinks.safetensors"), None, run / "run.toml")
    for plan, verdict in ((other.plan, "pass"), (planned.plan, "fail")):
        found = {check.name: check for check in compare(plan, run, result)}
        assert found["surviving rows"].verdict == verdict


def test_an_unfinished_removal_is_found_whatever_the_folder_is_called(run_of, corpus, ledger, unmeasured, monkeypatch):
    """Brackets are part of a name, and a pattern to glob."""
    run = run_of()
    for folder in (run, run.with_name("disjoint-run")):
        folder.rename(folder.with_name(folder.name.replace("disjoint", "run[1]")))
    run = run.with_name("run[1]")
    planned = planned_of(run, corpus)
    with monkeypatch.context() as stopped:
        stopped.setattr(steps, "write", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            begin(planned, ledger, NOBODY, quiet)
    assert unfinished(run) is not None
    assert go_on(run, ledger, quiet, corpus=corpus.path).accepted
    assert unfinished(run) is None
