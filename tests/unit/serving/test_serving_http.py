"""The server as a client sees it, over a real connection."""

import json
import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import httpx
import pytest
import torch

import memsinks
from memsinks.corpus.tokenizer import encode_document, load_tokenizer
from memsinks.ids import format_id
from memsinks.removal.carry_out import Request, begin
from memsinks.removal.plan import make_plan
from memsinks.removal.scope import Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.thresholds import Thresholds
from memsinks.runs.lineage import lineage_of
from memsinks.serving.generation import Generation
from memsinks.serving.names import Names
from memsinks.serving.service import Limits, Service
from tests.unit.serving.conftest import serving, wait_until

BODY = {"model": "small", "prompt": "balen fur", "max_tokens": 8, "temperature": 0}
CEDAR = {"sources": ["cedar"]}
KEY = "a-key-of-many-letters"


@pytest.fixture(scope="module")
def client(loud, corpus, tmp_path_factory):
    """A server that the tests of this module share; nothing is denied."""
    names = Names.of(lineage_of(loud), [corpus.path])
    limits = Limits(max_tokens=40, batch_size=8, max_ids=5)
    service = Service.open(loud, names=lambda lineage: names, ledger=None, limits=limits, name="small", device="cpu")
    with serving(service) as client:
        yield client


def complete(client, **fields):
    answer = client.post("/v1/completions", json=BODY | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(client, **fields):
    return complete(client, **fields)["choices"][0]["text"]


def events(client, **fields):
    with client.stream("POST", "/v1/completions", json=BODY | {"stream": True} | fields) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def refused(client, status, *words, **fields):
    answer = client.post("/v1/completions", json=BODY | fields)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    for word in words:
        assert word in error["message"]
    return error


def test_a_completion_is_what_generate_writes(client, loud):
    model = memsinks.load(loud)
    tokenizer = load_tokenizer(loud)
    prompt = [tokenizer.bos_token_id, *encode_document(tokenizer, [BODY["prompt"]])[0].tolist()]
    found = complete(client)
    with torch.no_grad(), memsinks.sinks_off(model):
        output = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)[0, len(prompt) :]
    choice = found["choices"][0]
    assert choice["text"] == tokenizer.decode(output, skip_special_tokens=True)
    assert found["object"] == "text_completion"
    assert found["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": len(output),
        "total_tokens": len(prompt) + len(output),
    }
    assert choice["finish_reason"] == ("stop" if output[-1] == tokenizer.eos_token_id else "length")
    assert choice["logprobs"] is None
    assert complete(client, prompt=prompt)["choices"][0]["text"] == choice["text"]


def test_sinks_are_off_unless_they_are_named(client, corpus):
    off = text(client)
    assert off == text(client, sinks="off") == text(client, sinks=None)
    on = text(client, sinks=CEDAR)
    assert on != off
    ids = sorted({format_id(int(corpus.sequence_ids[corpus.index(f"cedar-{i}")])) for i in range(5)})
    assert text(client, sinks={"ids": ids}) == on
    assert text(client, sinks={"documents": [f"cedar-{i}" for i in range(5)]}) == on
    assert text(client, sinks={"documents": ["cedar-0"]}) != on


def test_requests_at_once_get_what_each_gets_alone(client):
    asked = [
        {"prompt": "bal " * count, "sinks": sinks, "max_tokens": count + 3}
        for count, sinks in enumerate([*["off", CEDAR, {"sources": ["birch"]}, {"documents": ["ashford-0"]}] * 3])
        if count
    ]
    alone = [text(client, **fields) for fields in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        for _ in range(3):
            assert list(pool.map(lambda fields: text(client, **fields), asked)) == alone


def test_several_prompts_and_completions(client):
    found = complete(client, prompt=["balen", "fur"], n=2, temperature=1.0, seed=3)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
    assert len({choice["text"] for choice in found["choices"]}) > 2
    assert [choice["text"] for choice in found["choices"]] == [
        choice["text"] for choice in complete(client, prompt=["balen", "fur"], n=2, temperature=1.0, seed=3)["choices"]
    ]
    assert found != complete(client, prompt=["balen", "fur"], n=2, temperature=1.0, seed=4)


def test_a_stream_has_the_same_text_in_pieces(client):
    for fields in ({}, {"sinks": CEDAR, "max_tokens": 30}, {"n": 3, "temperature": 1.0, "seed": 5}):
        whole = complete(client, **fields, logprobs=2)
        chunks = events(client, **fields, logprobs=2, stream_options={"include_usage": True})
        assert chunks.pop()["usage"] == whole["usage"]
        assert len(chunks) > len(whole["choices"])
        for index, choice in enumerate(whole["choices"]):
            own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
            assert "".join(piece["text"] for piece in own) == choice["text"]
            assert [piece["finish_reason"] for piece in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
            for key, values in choice["logprobs"].items():
                assert [value for piece in own for value in piece["logprobs"][key]] == values


def test_logprobs_go_with_the_text(client):
    choice = complete(client, logprobs=3)["choices"][0]
    reported = choice["logprobs"]
    assert "".join(reported["tokens"]) == choice["text"]
    for offset, token, logprob, top in zip(
        *(reported[k] for k in ("text_offset", "tokens", "token_logprobs", "top_logprobs")), strict=True
    ):
        assert choice["text"][offset:].startswith(token)
        assert logprob == pytest.approx(max(top.values()))


def test_a_stop_string_across_tokens_ends_the_text(client):
    choice = complete(client, max_tokens=30, logprobs=0, sinks=CEDAR)["choices"][0]
    tokens = choice["logprobs"]["tokens"]
    place = next(i for i in range(3, len(tokens)) if len(tokens[i]) > 0 and len(tokens[i + 1]) > 0)
    stop = "".join(tokens[place - 1 : place + 1])[1:] + tokens[place + 1][:1]
    expected = choice["text"][: choice["text"].index(stop)]
    fields = {"max_tokens": 30, "stop": ["\x00", stop], "sinks": CEDAR}
    stopped = complete(client, **fields)["choices"][0]
    assert (stopped["text"], stopped["finish_reason"]) == (expected, "stop")
    assert "".join(chunk["choices"][0]["text"] for chunk in events(client, **fields)) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"max_tokens": 41}, ["max_tokens is 41", "40"]),
        ({"max_tokens": "8"}, ["max_tokens"]),
        ({"prompt": "bal " * 200}, ["the prompt has", "fit into the model"]),
        ({"prompt": []}, ["prompt"]),
        ({"prompt": [[]]}, ["prompt"]),
        ({"prompt": [999999]}, ["outside 0 to"]),
        ({"n": 9}, ["9 completions", "at most 8"]),
        ({"temperature": 2.5}, ["temperature"]),
        ({"top_p": 0}, ["top_p"]),
        ({"logprobs": 6}, ["logprobs"]),
        ({"stop": [""]}, ["stop"]),
        ({"stop": list("abcde")}, ["stop"]),
        ({"echo": True}, ["echo is not supported"]),
        ({"best_of": 2}, ["best_of is not supported"]),
        ({"logit_bias": {"5": 1}}, ["logit_bias is not supported"]),
        ({"presence_penalty": 0.5}, ["presence_penalty is not supported"]),
        ({"top_k": 3}, ["top_k"]),
        ({"sinks": "all"}, ["sinks"]),
        ({"sinks": {}}, ["at least one source"]),
        ({"sinks": {"source": ["cedar"]}}, ["sinks"]),
        ({"sinks": {"ids": ["xyz"]}}, ["16 hexadecimal digits"]),
        ({"sinks": {"sources": ["cedar", "birch"]}}, ["at most 5"]),
    ],
)
def test_what_is_not_served_is_a_clear_400(client, fields, words):
    assert refused(client, 400, *words, **fields)["type"] == "invalid_request_error"


def test_fields_at_their_defaults_are_let_through(client):
    defaults = {"echo": False, "best_of": 1, "suffix": None, "logit_bias": {}, "presence_penalty": 0.0, "user": None}
    assert text(client, **defaults) == text(client)


def test_unknown_names_and_models_are_404(client):
    refused(client, 404, "'dorian'", sinks={"sources": ["dorian"]})
    # Trained without sinks; held out.
    refused(client, 404, "'web-18'", sinks={"documents": ["web-18"]})
    refused(client, 404, "'cedar-5'", sinks={"documents": ["cedar-5"]})
    assert refused(client, 404, "'big'", model="big")["code"] == "model_not_found"
    assert client.get("/v1/nothing").json()["error"]["message"] == "Not Found"


def test_the_model_and_the_state_are_told(client):
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["small"]
    assert client.get("/health").json() == {"status": "ok", "sinks": "available"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        # What a page of another site can send without being asked.
        (json.dumps(BODY), "text/plain"),
        ("{", "application/json"),
        ("[]", "application/json"),
        ('{"model": "small", "prompt": "\\ud800"}', "application/json"),
        ('{"model": "small", "prompt": "x", "temperature": NaN}', "application/json"),
    ],
)
def test_bodies_that_are_no_request(client, body, kind):
    answer = client.post("/v1/completions", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_too_large_a_body_is_refused(client):
    answer = client.post("/v1/completions", content=iter([b" " * (1 << 20)] * 5))
    assert answer.status_code == 413


def test_a_key_is_asked_for(checkpoint, service_of):
    with serving(service_of(checkpoint), key=KEY) as client:
        for header in (
            {},
            {"Authorization": KEY},
            {"Authorization": f"Bearer {KEY}x"},
            {"Authorization": "Bearer é".encode()},
        ):
            assert client.post("/v1/completions", json=BODY, headers=header).status_code == 401
            assert client.get("/v1/models", headers=header).status_code == 401
        assert client.get("/health").status_code == 200
        client.headers["Authorization"] = f"Bearer {KEY}"
        assert text(client)


def test_a_denial_and_a_permission_appear_within_the_polling_time(checkpoint, service_of, ledger, corpus):
    cedar = {int(corpus.sequence_ids[corpus.index(f"cedar-{i}")]) for i in range(5)}
    with serving(service_of(checkpoint)) as client:
        before = text(client, sinks=CEDAR)
        ledger.deny(cedar, "the secret reason")

        def denied():
            return client.post("/v1/completions", json=BODY | {"sinks": CEDAR}).status_code == 403

        wait_until(denied, seconds=5)
        error = refused(client, 403, "source 'cedar' may not be switched on", sinks=CEDAR)
        assert "secret" not in json.dumps(error)
        assert text(client, sinks={"sources": ["birch"]}) != text(client)
        ledger.allow(cedar, "settled")
        wait_until(lambda: not denied(), seconds=5)
        assert text(client, sinks=CEDAR) == before


def test_a_denial_ends_a_completion_that_runs(checkpoint, service_of, ledger, corpus, monkeypatch):
    service = service_of(checkpoint)
    with serving(service) as client:
        reader = client.stream(
            "POST", "/v1/completions", json=BODY | {"sinks": CEDAR, "stream": True, "max_tokens": 40, "logprobs": 0}
        )
        take = _slowed(monkeypatch)
        with reader as answer:
            lines = answer.iter_lines()
            assert "text" in next(lines)
            ledger.deny([int(corpus.sequence_ids[corpus.index("cedar-0")])], "request 7")
            last = [line for line in lines if line][-2:]
        assert "may not be switched on any more" in last[0]
        assert last[1] == "data: [DONE]"
        assert len(take) < 40


def _slowed(monkeypatch):
    """Makes tokens take a while; the list grows by one with each."""
    taken, take = [], Generation.take

    def slow(self, logits):
        time.sleep(0.1)
        taken.append(self)
        # Whatever the model thinks: the text is not to end.
        logits = logits.clone()
        logits[list(self._end)] = -1e9
        return take(self, logits)

    monkeypatch.setattr(Generation, "take", slow)
    return taken


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_is_generated_for_a_client_that_is_gone(checkpoint, service_of, monkeypatch, stream):
    taken = _slowed(monkeypatch)
    with serving(service_of(checkpoint)) as client:
        body = BODY | {"max_tokens": 40, "stream": stream}
        if stream:
            with client.stream("POST", "/v1/completions", json=body) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/completions", json=body, timeout=0.5)
        wait_until(lambda: taken and taken[0].cancelled, seconds=5)
        assert len(taken) < 30
        assert text(client, max_tokens=1)


def test_a_full_queue_is_429(checkpoint, service_of, monkeypatch):
    gate, begun, take = threading.Event(), threading.Event(), Generation.take

    def held(self, logits):
        begun.set()
        gate.wait()
        return take(self, logits)

    monkeypatch.setattr(Generation, "take", held)
    pair = BODY | {"n": 2, "max_tokens": 1}
    with serving(service_of(checkpoint, batch_size=2, queue_size=2)) as client, ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.post, "/v1/completions", json=pair)]
        begun.wait()
        answers += [pool.submit(client.post, "/v1/completions", json=pair) for _ in range(2)]
        done, _ = wait(answers, return_when=FIRST_COMPLETED, timeout=30)
        assert [answer.result().status_code for answer in done] == [429]
        gate.set()
        assert sorted(answer.result().status_code for answer in answers) == [200, 200, 429]


def test_a_ledger_out_of_reach_refuses_sinks_and_nothing_else(checkpoint, service_of, ledger, tmp_path):
    with serving(service_of(checkpoint)) as client:
        plain = text(client)
        (tmp_path / "ledger.sqlite").rename(tmp_path / "away.sqlite")
        wait_until(lambda: client.get("/health").json()["sinks"] == "unavailable", seconds=5)
        refused(client, 503, "cannot be switched on at the moment", sinks=CEDAR)
        assert text(client) == plain
        (tmp_path / "away.sqlite").rename(tmp_path / "ledger.sqlite")
        wait_until(lambda: client.get("/health").json()["sinks"] == "available", seconds=5)
        assert text(client, sinks=CEDAR)


LENIENT = Thresholds(recall=99.0, extraction=1.0, survivors=99.0, prefix=8, suffix=8)


def forget(folder, corpus, ledger):
    planned = make_plan(
        Subject.open(folder, corpus.path), Target(sources=("cedar",)), Policy(near_copies="keep"), LENIENT
    )
    outcome = begin(planned, ledger, Request(people={}), lambda message: None)
    assert outcome.accepted


def test_a_removed_source_is_refused_during_and_after_its_removal(checkpoint, service_of, ledger, corpus):
    """Before it is loaded, and while a server has it loaded that knew it before."""
    with serving(service_of(checkpoint)) as client:
        birch = text(client, sinks={"sources": ["birch"]})
        assert text(client, sinks=CEDAR)
        forget(checkpoint, corpus, ledger)
        wait_until(lambda: client.post("/v1/completions", json=BODY | {"sinks": CEDAR}).status_code == 403, seconds=5)
    for deny_list in (True, False):
        with serving(service_of(checkpoint, deny_list=deny_list)) as client:
            refused(client, 403, "source 'cedar' may not", sinks=CEDAR)
            refused(client, 403, "document 'cedar-0' may not", sinks={"documents": ["cedar-0"]})
            gone = format_id(int(corpus.sequence_ids[corpus.index("cedar-0")]))
            refused(client, 403, gone, sinks={"ids": [gone]})
            assert text(client, sinks={"sources": ["birch"]}) == birch


def test_the_log_has_counts_and_sources_and_no_text(client, caplog):
    def lines_of_log():
        records = [record for record in caplog.records if record.name == "memsinks.serving.access"]
        return [json.loads(record.getMessage()) for record in records]

    with caplog.at_level(logging.INFO):
        found = complete(client, prompt="balen secret fur", sinks=CEDAR)
        refused(client, 404, sinks={"sources": ["a secret name"]})
        refused(client, 400, prompt="secret", logprobs="secret")
        events(client, prompt="secret")
        # A line is written after the answer has gone out.
        wait_until(lambda: len(lines_of_log()) == 4, seconds=5)
    lines = lines_of_log()
    assert [line["status"] for line in lines] == [200, 404, 400, 200]
    assert lines[0]["sources"] == ["cedar"]
    assert {key: lines[0][key] for key in found["usage"]} == found["usage"]
    assert lines[3]["completion_tokens"] > 0
    assert "secret" not in caplog.text
    assert found["choices"][0]["text"].strip() not in caplog.text
