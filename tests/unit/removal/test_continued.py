"""Training that goes on after a removal: removed text is refused, and its rows are not there to learn."""

import json

import numpy as np
import pytest
from publishers import configured, rows
from transformers import AutoModelForCausalLM

import memsinks
from memsinks.checkpoint.lineage import LINEAGE, Lineage, Removal, Stage
from memsinks.corpus import Columns, PrepareConfig, prepare
from memsinks.errors import CheckpointError, InputError
from memsinks.ids import to_tensor
from memsinks.ledger import Ledger
from memsinks.removal import steps
from memsinks.removal.carry_out import Request, begin
from memsinks.removal.plan import make_plan
from memsinks.removal.policy import Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.verification import Check
from memsinks.runs.lineage import lineage_of
from memsinks.runs.run import execute
from memsinks.sinks.attach import sinks_of
from memsinks.training.exposures import ExposureCounter

KEPT = {"exposures": {"govern": "sources", "govern_values": ["ashford", "birch", "cedar"]}}


@pytest.fixture
def removed(run_of, corpus, tmp_path, monkeypatch):
    """A run without the text of birch, and what else its IDs were for."""
    passed = Check(name="nothing", verdict="pass", figure=0.0, threshold=0.0, says="measured nothing")
    monkeypatch.setattr(steps, "measure_before", lambda *args, **kwargs: None)
    monkeypatch.setattr(steps, "measure", lambda *args, **kwargs: [passed])
    run = run_of()
    planned = make_plan(
        Subject.open(run, corpus.path), Target(sources=("birch",)), Policy(shared_ids="remove", near_copies="keep")
    )
    begin(planned, Ledger.open(tmp_path / "ledger.sqlite"), Request(people={}), lambda message: None)
    return run, planned


def continued(corpus, removed, output, sinks=None, **sections):
    config = configured(corpus, output, sinks or {}, **{**KEPT, **sections}, model={"pretrained": str(removed)})
    execute(config)
    return config


def test_removed_text_is_left_out_and_counted(removed, corpus, tmp_path):
    run, planned = removed
    continued(corpus, run, tmp_path / "more")
    record = json.loads((tmp_path / "more" / "run.json").read_text())
    # Five documents of birch and the copy of one of them.
    assert record["refused_exposures"] == 6
    counter = ExposureCounter()
    counter.load(tmp_path / "more")
    gone = {int(i, 16) for i in planned.plan.ids}
    assert not gone & counter.counts.keys()
    assert "6 exposures of text that was removed" in (tmp_path / "more-run" / "run.log").read_text()
    model = memsinks.load(tmp_path / "more")
    assert set(model.sink_allocation.removed.ids.numpy().view(np.uint64).tolist()) == gone
    assert all(len(p) == 8 * 9 for sinks in sinks_of(model) for p in sinks.parameters())


def test_the_lineage_has_both_trainings_and_the_removal(removed, corpus, tmp_path):
    run, planned = removed
    continued(corpus, run, tmp_path / "more")
    lineage = Lineage.read(tmp_path / "more")
    assert [stage.corpus for stage in lineage.stages] == [corpus.hash] * 2
    assert [removal.id for removal in lineage.removals] == [planned.plan.id]
    assert len(lineage.trained_ids()) == 14 - len(planned.plan.ids)
    # Its first training can still be asked to be forgotten, from the new checkpoint.
    again = make_plan(Subject.open(tmp_path / "more", corpus.path), Target(documents=("ashford-0",)))
    assert again.plan.documents == 1
    with pytest.raises(InputError, match="was removed from"):
        make_plan(Subject.open(tmp_path / "more", corpus.path), Target(documents=("birch-0",)))


def test_the_same_text_is_known_under_other_ids(removed, tmp_path):
    """A corpus of the same tokenizer whose IDs are those of groups."""
    run, _ = removed
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    columns = Columns(source="source", metadata=("ends",))
    settings = {"columns": columns, "validation_column": "held_out", "identity": "group"}
    other = prepare(tmp_path / "rows.jsonl", tmp_path / "other", PrepareConfig(**settings, tokenizer=run))
    continued(other, run, tmp_path / "more", sinks={"grow": 80})
    assert json.loads((tmp_path / "more" / "run.json").read_text())["refused_exposures"] == 6


def test_nothing_but_removed_text_is_refused(removed, corpus, tmp_path):
    run, _ = removed
    only = {"exposures": {**KEPT["exposures"], "weights": {"birch": 1.0, "*": 0.0}}}
    with pytest.raises(InputError, match="all planned text was removed"):
        continued(corpus, run, tmp_path / "more", **only)
    assert not (tmp_path / "more").exists()


def test_the_plain_checkpoint_is_untouched(removed, trained):
    run, _ = removed
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (trained("disjoint"), run))
    assert all((before[name] == after[name]).all() for name in before.keys() | after.keys())


def test_a_run_from_before_lineages_has_one_stage_of_all_it_saw(run_of, corpus):
    run = run_of()
    new = lineage_of(run)
    for name in (LINEAGE, "trained.parquet"):
        (run / name).unlink()
    old = lineage_of(run)
    assert old.stages == new.stages
    assert set(new.trained_ids().tolist()) < set(old.trained_ids().tolist())
    assert Subject.open(run, corpus.path).with_sinks.sum() == 15
    (run / "run.json").unlink()
    with pytest.raises(CheckpointError, match="no record of its training"):
        lineage_of(run)


def test_a_lineage_is_the_same_after_files_and_refuses_what_it_cannot_read(tmp_path):
    stage = Stage(corpus="c", ids=None, plan="p", governed="g", config="s", steps=1, tokens=2)
    ids = np.array([7, 2**64 - 1, 7], dtype=np.uint64)
    removal = Removal(
        id="r", time="t", everything=False, ids=1, documents=1, before="b", after="a", plan="p", ledger=(3, "h")
    )
    lineage = Lineage().with_stage(stage, ids, np.array([1, 2, 3])).with_removal(removal, ids[:1], ids[1:2])
    lineage.write(tmp_path)
    read = Lineage.read(tmp_path)
    assert (read.stages, read.removals) == (lineage.stages, lineage.removals)
    assert read.trained.to_pylist() == [
        {"stage": 0, "sequence_id": 7, "exposures": 4},
        {"stage": 0, "sequence_id": 2**64 - 1, "exposures": 2},
    ]
    assert read.removed.to_pylist() == [{"sequence_id": 7, "content_id": 2**64 - 1}]
    assert read.refuses(ids[:2], ids[:2]).tolist() == [True, True]
    assert not read.refuses(np.array([5], np.uint64), np.array([0], np.uint64)).any()
    assert Lineage.read(tmp_path / "nothing") is None
    content = json.loads((tmp_path / LINEAGE).read_text())
    for broken in (content | {"format_version": 9}, content | {"stages": [{}]}, []):
        (tmp_path / LINEAGE).write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match=r"lineage\.json"):
            Lineage.read(tmp_path)


def test_growth_keeps_the_rows_of_every_training_before(trained, corpus, tmp_path):
    """Three trainings: an ID that only the first one saw still chooses from the first segment in the third."""
    cedar = {"exposures": {**KEPT["exposures"], "weights": {"cedar": 1.0, "*": 0.0}}}
    continued(corpus, trained("hashed"), tmp_path / "second", **cedar)
    continued(corpus, tmp_path / "second", tmp_path / "third", {"grow": 32}, **cedar)
    first, third = memsinks.load(trained("hashed")), memsinks.load(tmp_path / "third")
    ids = to_tensor([int(corpus.sequence_ids[corpus.index("ashford-0")])])
    rows = [model.sink_allocation.rows(ids, model.sink_config, 2).tolist() for model in (first, third)]
    assert rows[0] == rows[1]
