"""Plans: what goes, what it touches, and the decisions that are left."""

import json
import shutil

import numpy as np
import pytest
import torch

from memsinks.errors import CheckpointError, ConfigError, InputError
from memsinks.ids import format_id, to_tensor
from memsinks.removal.plan import RemovalPlan, make_plan, remake
from memsinks.removal.policy import Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.text import plan_text

BIRCH = Target(sources=("birch",))


def decisions(plan):
    return {decision.name: decision for decision in plan.decisions}


def test_copies_and_near_copies_of_others_need_decisions(subject_of):
    plan = make_plan(subject_of(), BIRCH).plan
    assert (plan.documents, plan.never_trained, len(plan.ids)) == (5, 1, 5)
    found = decisions(plan)
    assert set(found) == {"shared-ids", "near-copies"}
    assert found["shared-ids"].examples[0] == "ashford-1 (ashford)"
    assert found["near-copies"].examples == ("cedar-2 (cedar)",)
    assert len(plan.undecided) == 2
    assert not plan.incomplete


@pytest.mark.parametrize("shared", ["remove", "keep"])
@pytest.mark.parametrize("near", ["remove", "keep"])
def test_decisions_change_what_goes(subject_of, shared, near):
    subject = subject_of()
    planned = make_plan(subject, BIRCH, Policy(shared_ids=shared, near_copies=near))
    plan, corpus = planned.plan, subject.corpus
    gone = {corpus.documents[i] for i in np.flatnonzero(planned.scope.documents | planned.scope.also)}
    expected = {f"birch-{i}" for i in (0, 2, 3, 4)}
    expected |= {"birch-1", "ashford-1"} if shared == "remove" else set()
    expected |= {"cedar-2"} if near == "remove" else set()
    assert gone == expected
    assert not plan.undecided
    assert len(plan.incomplete) == (shared == "keep") + (near == "keep")
    assert plan.also == len(expected - {f"birch-{i}" for i in range(5)})


def test_owners_lose_nothing_and_rows_are_those_of_the_ids(subject_of):
    planned = make_plan(subject_of(), Target(documents=("cedar-0", "cedar-3")))
    there = 8 * 14  # IDs of fifteen trained documents, two of which share one
    assert planned.plan.rows == ((there, 16, 16),) * 2
    assert (planned.plan.lost_mean, planned.plan.lost_most, planned.plan.losses) == (0.0, 0.0, ())
    assert "None of them loses a row" in plan_text(planned.plan)


def test_the_loss_of_survivors_is_that_of_an_independent_count(subject_of):
    subject = subject_of("hashed")
    planned = make_plan(subject, Target(documents=("cedar-0",)), Policy(shared_rows="remove"))
    table, config = subject.files.table, subject.files.config
    rows = table.rows(to_tensor(subject.trained), config, subject.layers)
    goes = table.rows(to_tensor(planned.scope.ids), config, subject.layers)[:, 0]
    for number, sequence_id in enumerate(subject.trained.tolist()):
        if sequence_id in planned.scope.ids.tolist():
            continue
        lost = sum(len(set(rows[layer, number].tolist()) & set(goes[layer].tolist())) for layer in range(2))
        place = planned.cut.collateral.ids.tolist().index(sequence_id)
        assert planned.cut.collateral.lost[place] == lost / 32
    assert planned.plan.rows == ((64, 16, 16),) * 2
    assert planned.plan.lost_most == planned.cut.collateral.lost.max() > 0
    by_source = {loss.source: loss for loss in planned.plan.losses}
    assert set(by_source) == {"ashford", "birch", "cedar"}
    assert "shared-rows" in decisions(planned.plan)
    kept = make_plan(subject, Target(documents=("cedar-0",)), Policy(shared_rows="keep"))
    assert kept.plan.lost_most == 0
    assert all(removed < chosen for _, chosen, removed in kept.plan.rows)
    assert kept.plan.incomplete


def test_a_sample_of_survivors_stands_for_all_when_there_are_many(subject_of, monkeypatch):
    monkeypatch.setattr("memsinks.sinks.collateral.BUDGET", 6 * 32)
    plan = make_plan(subject_of("hashed"), Target(documents=("cedar-0",)), Policy(shared_rows="remove")).plan
    assert (plan.survivors, plan.measured) == (13, 6)
    assert "computed for 6 of them" in plan_text(plan)


def test_everything_goes_without_any_decision(subject_of):
    plan = make_plan(subject_of("hashed"), Target(everything=True)).plan
    assert plan.rows == ((64, 64, 64),) * 2
    assert not plan.decisions
    assert len(plan.ids) == 14
    assert plan.survivors == 0


def test_a_plan_is_the_same_after_a_file(subject_of, tmp_path):
    planned = make_plan(subject_of(), BIRCH, Policy(shared_ids="remove"))
    planned.plan.write(tmp_path / "plan.json")
    assert RemovalPlan.read(tmp_path / "plan.json") == planned.plan
    again = remake(planned.plan, subject_of())
    assert again.plan == planned.plan
    assert torch.equal(again.cut.table.removed.ids, planned.cut.table.removed.ids)
    content = json.loads((tmp_path / "plan.json").read_text())
    old = {key: value for key, value in content.items() if key != "alternatives"} | {"format_version": 1}
    for broken in (content | {"format": "x"}, {**content, "ids": None}, [1], old):
        (tmp_path / "bad.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"bad\.json: cannot be read as a plan"):
            RemovalPlan.read(tmp_path / "bad.json")


def test_a_plan_of_another_version_says_so(subject_of, tmp_path):
    file = tmp_path / "plan.json"
    make_plan(subject_of(), BIRCH).plan.write(file)
    content = json.loads(file.read_text())
    for version in (1, 3):
        file.write_text(json.dumps(content | {"format_version": version}))
        with pytest.raises(InputError, match=f"format version {version}, and this version of memsinks reads 2"):
            RemovalPlan.read(file)


def test_a_plan_for_another_state_of_the_checkpoint_is_refused(run_of, corpus):
    run = run_of()
    planned = make_plan(Subject.open(run, corpus.path), BIRCH)
    (run / "run.json").write_text((run / "run.json").read_text() + " ")
    with pytest.raises(InputError, match=r"has changed since removal .* \(run\.json\)"):
        remake(planned.plan, Subject.open(run, corpus.path))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(documents=("birch-5",)), "held out for validation"),
        (Target(documents=("web-20",)), "trained into shared weights alone"),
    ],
)
def test_what_was_not_trained_with_sinks_is_refused(subject_of, target, message):
    with pytest.raises(InputError, match=message):
        make_plan(subject_of(), target)


def test_documents_without_sinks_among_others_need_a_decision(subject_of):
    mixed = Target(documents=("web-20", "cedar-0"))
    plan = make_plan(subject_of(), mixed).plan
    assert decisions(plan)["without-sinks"].remove is None
    assert plan.undecided
    kept = make_plan(subject_of(), mixed, Policy(without_sinks="keep")).plan
    assert kept.incomplete == ("1 documents of the request trained without sinks: kept",)


def test_a_decision_about_nothing_is_refused(subject_of):
    with pytest.raises(ConfigError, match="--near-copies keep: this request touches nothing"):
        make_plan(subject_of(), Target(documents=("cedar-0",)), Policy(near_copies="keep"))


def test_another_corpus_and_altered_sinks_are_refused(run_of, corpus, tmp_path):
    run = run_of()
    other = tmp_path / "other"
    shutil.copytree(corpus.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="was not trained on"):
        Subject.open(run, other)
    data = bytearray((run / "sinks.safetensors").read_bytes())
    data[-1] ^= 1
    (run / "sinks.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="altered"):
        Subject.open(run, corpus.path)
    with pytest.raises(InputError, match="no such folder"):
        Subject.open(tmp_path / "nothing", corpus.path)


def test_residue_is_found_inside_and_outside(run_of, corpus, trained):
    run = run_of()
    text = corpus.text(corpus.index("cedar-0"))
    (run / "report.html").write_text(f"<p>{text}</p>")
    (run / "other.html").write_text("<p>nothing of it</p>")
    (run.parent / "disjoint-run" / "notes.json").write_text(json.dumps({"text": text}))
    adapter = run.parent / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    shutil.copytree(run, run.parent / "sibling")
    own = format_id(int(corpus.sequence_ids[corpus.index("cedar-0")]))
    records = {
        "folded/memsinks-export.json": ("chosen", [own]),
        "file.gguf.memsinks-export.json": ("all", []),
        "off/memsinks-export.json": ("off", []),
        "other.gguf.memsinks-export.json": ("chosen", ["0" * 16]),
        "disjoint-run/inside.gguf.memsinks-export.json": ("chosen", [own]),
    }
    for name, (mode, ids) in records.items():
        file = run.parent / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"mode": mode, "ids": ids}))
    plan = make_plan(Subject.open(run, corpus.path), Target(documents=("cedar-0",))).plan
    purged = {item.path for item in plan.residue if item.action == "purge"}
    assert {"disjoint/report.html", "disjoint-run/notes.json", "disjoint-run/inside.gguf"} <= purged
    assert any(path.startswith("disjoint-run/checkpoint-") for path in purged)
    assert not any("other.html" in path for path in purged)
    listed = {item.path: item for item in plan.residue if item.action == "list"}
    beside = {str(run.parent / name) for name in ("tuned", "sibling", "folded", "file.gguf")}
    assert beside | {str(corpus.path)} == set(listed)
    assert "memsinks forget" in listed[str(run.parent / "sibling")].remedy


def test_what_others_lose_is_about_what_is_expected_of_such_a_pool(subject_of):
    plan = make_plan(
        subject_of("hashed"), Target(sources=("cedar",)), Policy(near_copies="remove", shared_rows="remove")
    ).plan
    assert plan.lost_expected == pytest.approx(1 - (1 - 16 / 64) ** len(plan.ids))
    assert plan.lost_mean == pytest.approx(plan.lost_expected, abs=0.1)
    assert f"{plan.lost_expected:.1%} is expected" in plan_text(plan)


def test_rows_of_ones_own_have_nothing_to_expect(subject_of):
    plan = make_plan(subject_of("disjoint"), Target(sources=("ashford",)), Policy(shared_ids="keep")).plan
    assert plan.lost_expected is None
