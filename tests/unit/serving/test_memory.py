"""Sinks in the memory of a server: attenuated ones, and those that a removal takes out while it runs."""

import logging
import shutil
import threading

import pytest
import torch

import memsinks
from memsinks.errors import InputError
from memsinks.ids import format_id
from memsinks.removal.carry_out import Request, begin
from memsinks.removal.plan import make_plan
from memsinks.removal.policy import Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.thresholds import Thresholds
from memsinks.runs.lineage import lineage_of
from memsinks.serving.generation import Generation
from memsinks.serving.memory import SinkMemory
from memsinks.sinks.attach import sinks_of
from tests.unit.serving.conftest import serving, wait_until

BODY = {"model": "small", "prompt": "balen fur", "max_tokens": 8, "temperature": 0, "logprobs": 0}
LENIENT = Thresholds(recall=99.0, extraction=1.0, survivors=99.0, prefix=8, suffix=8)


def forget(folder, corpus, ledger, source="cedar", **policy):
    policy = Policy(**{"near_copies": "keep", **policy})
    planned = make_plan(Subject.open(folder, corpus.path), Target(sources=(source,)), policy, LENIENT)
    assert begin(planned, ledger, Request(people={}), lambda message: None).accepted


def answer(client, *sources, **named):
    sinks = named or ({"sources": list(sources)} if sources else "off")
    found = client.post("/v1/completions", json=BODY | {"sinks": sinks})
    assert found.status_code == 200, found.text
    return found.json()["choices"]


def facts(client):
    return client.get("/v1/models").json()["data"][0]["sinks"]


def rows(model):
    """Every row of every tensor of sinks, as bytes."""
    return {
        row.numpy().tobytes()
        for sinks in sinks_of(model)
        for weight in sinks.parameters(recurse=False)
        for row in weight.detach()
    }


def same(left, right):
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_removal_on_disk_takes_the_rows_out_of_memory(checkpoint, service_of, ledger, corpus, caplog):
    service = service_of(checkpoint)
    whole = rows(service.memory.model)
    with serving(service) as client, caplog.at_level(logging.WARNING):
        assert facts(client) == {"attenuated": {}, "removed_ids": 0, "removed_in_memory": False}
        before = {names: answer(client, *names) for names in ((), ("birch",), ("ashford",))}
        answer(client, "cedar")
        tensors = [
            weight.data for sinks in sinks_of(service.memory.model) for weight in sinks.parameters(recurse=False)
        ]
        forget(checkpoint, corpus, ledger)
        wait_until(lambda: facts(client)["removed_ids"] == 5 and not facts(client)["removed_in_memory"], seconds=10)
        assert {names: answer(client, *names) for names in before} == before
        assert client.post("/v1/completions", json=BODY | {"sinks": {"sources": ["cedar"]}}).status_code == 403
    after = memsinks.load(checkpoint)
    assert same(service.memory.model, after)
    assert service.memory.model.sink_allocation.facts() == after.sink_allocation.facts()
    gone = whole - rows(service.memory.model)
    # Five IDs own 8 rows in each of 2 layers, and a row is in 3 tensors.
    assert len(gone) == 5 * 8 * 2 * 3
    assert not any(old.any() for old in tensors), "what held them is overwritten"
    said = [r.getMessage() for r in caplog.records if "taken out of memory" in r.getMessage()]
    assert len(said) == 1
    assert "80 rows" in said[0]


@pytest.mark.parametrize("shared", ["remove", "keep"])
def test_with_shared_rows_memory_is_what_the_removal_left_on_disk(trained, corpus, ledger, shared, tmp_path):
    run = tmp_path / "hashed"
    for folder in (trained("hashed"), trained("hashed").with_name("hashed-run")):
        shutil.copytree(folder, tmp_path / folder.name)
    memory = SinkMemory(memsinks.load(run), run)
    forget(run, corpus, ledger, shared_rows=shared)
    removed = frozenset(lineage_of(run).removed["sequence_id"].to_pylist())
    memory.learn(removed, lambda chore: chore())
    assert same(memory.model, memsinks.load(run))
    assert not memory.state()["removed_in_memory"]


def test_two_removals_and_one_of_everything_are_followed(checkpoint, service_of, ledger, corpus):
    service = service_of(checkpoint)
    with serving(service) as client:
        forget(checkpoint, corpus, ledger, "cedar")
        forget(checkpoint, corpus, ledger, "ashford", near_copies=None, shared_ids="keep")
        wait_until(lambda: same(service.memory.model, memsinks.load(checkpoint)), seconds=10)
        plain = answer(client)
        planned = make_plan(Subject.open(checkpoint, corpus.path), Target(everything=True), None, LENIENT)
        begin(planned, ledger, Request(people={}), lambda message: None)
        wait_until(lambda: not any(len(sinks.up) for sinks in sinks_of(service.memory.model)), seconds=10)
        assert answer(client) == plain


def test_what_runs_ends_first(checkpoint, service_of, ledger, corpus, monkeypatch):
    """The completion of a survivor that was begun before goes on over the whole pool, to the same end."""
    with serving(service_of(checkpoint)) as client:
        expected = answer(client, "birch")
    gate, begun, take = threading.Event(), threading.Event(), Generation.take

    def held(self, logits):
        begun.set()
        gate.wait(30)
        return take(self, logits)

    monkeypatch.setattr(Generation, "take", held)
    service = service_of(checkpoint)
    with serving(service) as client:
        found = []
        asking = threading.Thread(target=lambda: found.append(answer(client, "birch")))
        asking.start()
        begun.wait()
        whole = [len(sinks.up) for sinks in sinks_of(service.memory.model)]
        forget(checkpoint, corpus, ledger)
        wait_until(lambda: service.memory.state()["removed_in_memory"], seconds=10)
        assert [len(sinks.up) for sinks in sinks_of(service.memory.model)] == whole
        gate.set()
        asking.join()
        assert found == [expected]
        wait_until(lambda: not service.memory.state()["removed_in_memory"], seconds=10)
        assert [len(sinks.up) for sinks in sinks_of(service.memory.model)] == [n - 40 for n in whole]


def test_another_checkpoint_in_its_place_is_told_once_and_changes_nothing(checkpoint, caplog, trained):
    memory = SinkMemory(memsinks.load(checkpoint), trained("hashed"))
    before = {name: value.clone() for name, value in memory.model.state_dict().items()}
    for _ in range(3):
        memory.learn(frozenset({5}), lambda chore: chore())
    assert memory.state()["removed_in_memory"]
    assert all(torch.equal(value, before[name]) for name, value in memory.model.state_dict().items())
    assert len([r for r in caplog.records if "still in memory" in r.getMessage()]) == 1


def test_attenuated_sinks_are_scaled_in_memory_and_the_state_names_them(checkpoint, service_of, corpus, loud):
    sequence_id = format_id(int(corpus.sequence_ids[corpus.index("cedar-0")]))
    service = service_of(checkpoint, attenuate={"birch": 0.25, sequence_id: 0.0})
    with serving(service) as client:
        assert facts(client)["attenuated"] == {"birch": 0.25, sequence_id: 0.0}
        weak, plain, silent = answer(client, "birch"), answer(client), answer(client, ids=[sequence_id])
        # Not its source: it has a copy of a document of birch, under one ID.
        other = answer(client, documents=["ashford-0"])
    with serving(service_of(checkpoint)) as client:
        assert answer(client, "birch") != weak != plain
        assert answer(client) == plain == silent
        assert answer(client, documents=["ashford-0"]) == other
    assert (checkpoint / "sinks.safetensors").read_bytes() == (loud / "sinks.safetensors").read_bytes()


def test_an_attenuation_stays_through_a_removal_and_ends_with_its_own(checkpoint, service_of, ledger, corpus):
    service = service_of(checkpoint, attenuate={"birch": 0.25, "cedar": 0.5})
    with serving(service) as client:
        weak = answer(client, "birch")
        forget(checkpoint, corpus, ledger)
        wait_until(lambda: facts(client)["removed_ids"] == 5 and not facts(client)["removed_in_memory"], seconds=10)
        assert answer(client, "birch") == weak
        assert facts(client)["attenuated"] == {"birch": 0.25}
    with pytest.raises(InputError, match="'cedar' has no sinks to attenuate"):
        service_of(checkpoint, attenuate={"cedar": 0.5})
