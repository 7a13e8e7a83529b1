"""Requests that say nothing of sinks, on a server that routes."""

import json
import logging
import time

import pytest

from memsinks.cli import main
from memsinks.serving.names import Names
from memsinks.serving.routing import Router
from memsinks.serving.service import Limits, Service
from tests.unit.serving.conftest import QUICK, serving, wait_until
from tests.unit.serving.test_serving_http import complete, events, forget

OFF = {"sinks": "off"}


@pytest.fixture(scope="module")
def prompts(corpus):
    """The beginning of a text of each publisher, and of one of none."""
    names = {"ashford": "ashford-0", "birch": "birch-4", "cedar": "cedar-3", None: "web-70"}
    return {source: corpus.text(corpus.index(name))[:80] for source, name in names.items()}


@pytest.fixture
def routing(corpus, ledger):
    """Makes a service that routes."""

    def make(folder, *, deny_list=True, threshold=0.0, **limits):
        return Service.open(
            folder,
            names=lambda lineage: Names.of(lineage, [corpus.path]),
            router=lambda lineage, exclusions: Router.of(
                lineage, [corpus.path], excluded=exclusions.current, threshold=threshold
            ),
            ledger=ledger.place if deny_list else None,
            limits=Limits(**limits),
            name="small",
            device="cpu",
        )

    return make


def routes(answer):
    return [choice["route"]["source"] for choice in answer["choices"]]


def texts(answer):
    return [choice["text"] for choice in answer["choices"]]


def test_a_prompt_gets_the_sinks_of_its_source_and_the_answer_says_so(loud, routing, prompts):
    with serving(routing(loud)) as client:
        for source, prompt in prompts.items():
            found = complete(client, prompt=prompt)
            assert routes(found) == [source]
            assert found["choices"][0]["route"].keys() == {"source", "score", "margin"}
            sinks = "off" if source is None else {"sources": [source]}
            named = complete(client, prompt=prompt, sinks=sinks)
            assert "route" not in named["choices"][0]
            assert texts(found) == texts(named)
        assert texts(complete(client, prompt=prompts["cedar"])) != texts(
            complete(client, prompt=prompts["cedar"], **OFF)
        )
        # What a request names counts, and so does off.
        birch = {"sources": ["birch"]}
        assert texts(complete(client, prompt=prompts["cedar"], sinks=birch)) != texts(
            complete(client, prompt=prompts["cedar"])
        )
        assert routes(complete(client, prompt=prompts["cedar"], sinks=None)) == ["cedar"]


def test_each_prompt_of_a_request_is_routed_by_itself(loud, routing, prompts, caplog):
    with serving(routing(loud)) as client, caplog.at_level(logging.INFO):
        found = complete(client, prompt=list(prompts.values()), n=2)
        assert routes(found) == [source for source in prompts for _ in range(2)]
        for source, prompt, text in zip(prompts, prompts.values(), texts(found)[::2], strict=True):
            sinks = "off" if source is None else {"sources": [source]}
            assert texts(complete(client, prompt=prompt, sinks=sinks)) == [text]
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "memsinks.serving.access"]
    assert lines[0]["routed"] == routes(found)
    assert all("routed" not in line for line in lines[1:])
    assert prompts["cedar"][:20] not in caplog.text


def test_tokens_are_routed_as_their_text_is(loud, corpus, routing, prompts):
    with serving(routing(loud)) as client:
        tokens = corpus.tokens(corpus.index("cedar-3"), 0, 30).tolist()
        assert routes(complete(client, prompt=tokens)) == ["cedar"]
        refused = client.post("/v1/completions", json={"model": "small", "prompt": [999999]})
        assert refused.status_code == 400


def test_every_chunk_of_a_stream_has_the_route(loud, routing, prompts):
    with serving(routing(loud)) as client:
        whole = complete(client, prompt=[prompts["birch"], prompts[None]])
        chunks = [chunk["choices"][0] for chunk in events(client, prompt=[prompts["birch"], prompts[None]])]
    for choice in whole["choices"]:
        own = [chunk for chunk in chunks if chunk["index"] == choice["index"]]
        assert "".join(chunk["text"] for chunk in own) == choice["text"]
        assert all(chunk["route"] == choice["route"] for chunk in own)


def test_a_removed_source_is_not_routed_to_while_it_is_in_the_index_nor_after(
    checkpoint, routing, ledger, corpus, prompts
):
    with serving(routing(checkpoint, deny_list=False, **QUICK)) as client:
        assert routes(complete(client, prompt=prompts["cedar"])) == ["cedar"]
        off = texts(complete(client, prompt=prompts["cedar"], **OFF))
        forget(checkpoint, corpus, ledger)
        body = {"model": "small", "prompt": "x", "sinks": {"sources": ["cedar"]}}
        wait_until(lambda: client.post("/v1/completions", json=body).status_code == 403, seconds=5)
        found = complete(client, prompt=prompts["cedar"])
        assert routes(found) != ["cedar"]
        if routes(found) == [None]:
            assert texts(found) == off
    service = routing(checkpoint, deny_list=False)
    assert service.router.sources == ("ashford", "birch")
    with serving(service) as client:
        assert routes(complete(client, prompt=prompts["cedar"])) != ["cedar"]
        assert routes(complete(client, prompt=prompts["birch"])) == ["birch"]


def test_a_denied_source_is_not_routed_to(checkpoint, routing, ledger, corpus, prompts):
    cedar = {int(corpus.sequence_ids[corpus.index(f"cedar-{i}")]) for i in range(5)}
    with serving(routing(checkpoint, **QUICK)) as client:
        assert routes(complete(client, prompt=prompts["cedar"])) == ["cedar"]
        ledger.deny(cedar, "request 7")
        body = {"model": "small", "prompt": "x", "sinks": {"sources": ["cedar"]}}
        wait_until(lambda: client.post("/v1/completions", json=body).status_code == 403, seconds=5)
        assert routes(complete(client, prompt=prompts["cedar"])) != ["cedar"]
    assert "cedar" not in routing(checkpoint).router.sources


def test_a_ledger_out_of_reach_routes_nothing_and_keeps_a_server_from_starting(
    checkpoint, routing, ledger, prompts, tmp_path
):
    with serving(routing(checkpoint, **QUICK)) as client:
        (tmp_path / "ledger.sqlite").rename(tmp_path / "away.sqlite")
        wait_until(lambda: client.get("/health").json()["sinks"] == "unavailable", seconds=5)
        found = complete(client, prompt=prompts["cedar"])
        assert routes(found) == [None]
        assert texts(found) == texts(complete(client, prompt=prompts["cedar"], **OFF))
    assert main(["serve", str(checkpoint), "--route", "--corpus", "x", "--ledger", str(ledger.place)]) == 2


def test_sources_with_too_many_ids_run_without_sinks_and_are_warned_of(loud, routing, prompts, caplog):
    service = routing(loud, max_ids=2)
    assert "3 of 3 sources have more IDs than max_ids" in caplog.text
    with serving(service) as client:
        assert routes(complete(client, prompt=prompts["cedar"])) == [None]


def test_too_many_ids_are_seen_though_the_index_takes_longer_than_a_reading_lasts(loud, routing, caplog, monkeypatch):
    made = Router.__init__

    def slow(self, *arguments, **options):
        made(self, *arguments, **options)
        time.sleep(0.7)

    monkeypatch.setattr(Router, "__init__", slow)
    # A reading lasts three times as long as that.
    routing(loud, poll_seconds=0.2, max_ids=2)
    assert "3 of 3 sources have more IDs than max_ids" in caplog.text


def test_nothing_of_the_text_is_written(checkpoint, routing, corpus, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert routing(checkpoint, threshold=None).router.threshold >= 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_command_routes(checkpoint, corpus, ledger, prompts, monkeypatch, capsys):
    made = []
    monkeypatch.setattr("uvicorn.run", lambda app, **options: made.append(app))
    monkeypatch.setattr("memsinks.serving.app.create_app", lambda service, **options: service, raising=True)
    command = ["serve", str(checkpoint), "--corpus", str(corpus.path), "--ledger", str(ledger.place), "--device", "cpu"]
    assert main([*command, "--route", "--route-threshold", "0.01"]) == 0
    assert "prompts are routed to 3 sources above a score of 0.010" in capsys.readouterr().err
    service = made.pop()
    service.exclusions.refresh()
    assert service.router.route(prompts["cedar"]).source == "cedar"
    assert main(command) == 0
    assert made.pop().router is None
