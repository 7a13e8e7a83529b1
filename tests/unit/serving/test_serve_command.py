"""``memsinks serve`` as a user runs it."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from commands import assert_refused, flat

from memsinks.cli import main
from tests.unit.serving.conftest import wait_until

KEY = "a-key-of-many-letters"


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_it_serves_by_a_file_of_names(checkpoint, corpus, ledger, port, tmp_path, capsys):
    names = tmp_path / "names.parquet"
    assert main(["serve", str(checkpoint), "--corpus", str(corpus.path), "--save-names", str(names)]) == 0
    assert "names.parquet: 15 documents" in flat(capsys.readouterr().out)
    options = [
        "--names",
        names,
        "--ledger",
        ledger.place,
        "--port",
        port,
        "--api-key-variable",
        "OUR_KEY",
        "--device",
        "cpu",
    ]
    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "memsinks", "serve", str(checkpoint), *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OUR_KEY": KEY},
    )
    url = f"http://127.0.0.1:{port}"

    def up():
        assert server.poll() is None, server.stderr.read()
        try:
            return httpx.get(f"{url}/health", trust_env=False).json() == {"status": "ok", "sinks": "available"}
        except httpx.ConnectError:
            return False

    try:
        wait_until(up, seconds=120)
        body = {"model": "run", "prompt": "balen", "max_tokens": 4, "sinks": {"sources": ["birch"]}}
        assert httpx.post(f"{url}/v1/completions", json=body, trust_env=False).status_code == 401
        answer = httpx.post(
            f"{url}/v1/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
        )
        assert answer.json()["usage"]["completion_tokens"] <= 4
    finally:
        server.send_signal(signal.SIGINT)
        log = server.communicate(timeout=60)[1]
    assert '"path": "/v1/completions", "status": 200, "sources": ["birch"]' in log
    assert "balen" not in log
    assert KEY not in log


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], ["--host 0.0.0.0", "--api-key-variable", "--insecure"]),
        (["--host", "::"], ["can be reached from other machines"]),
        (["--host", "example.org"], ["can be reached from other machines"]),
        (["--api-key-variable", "OUR_KEY"], ["OUR_KEY", "at least 16 characters"]),
        (["--names", "n", "--corpus", "c"], ["--names and --corpus"]),
        (["--save-names", "new"], ["--save-names", "--corpus"]),
        (["--names", "nowhere.parquet"], ["nowhere.parquet", "is no file of names"]),
        (["--corpus", "nowhere"], ["nowhere"]),
        (["--route"], ["--route compares", "--corpus"]),
        (["--route", "--names", "n"], ["--route compares", "--corpus"]),
        (["--route-threshold", "0.1"], ["--route-threshold is of --route"]),
        (["--route", "--corpus", "c", "--route-threshold", "1"], ["--route-threshold is 1.0", "below 1"]),
        (["--max-ids", "0"], ["max_ids is 0"]),
        (["--max-tokens", "0"], ["max_tokens is 0"]),
        (["--batch-size", "0"], ["at least one completion"]),
        (["--poll-seconds", "0"], ["poll_seconds is 0"]),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_listens(
    options, words, checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUR_KEY", "short")
    monkeypatch.setattr("uvicorn.run", lambda *args, **kwargs: pytest.fail("it listens"))
    assert_refused(["serve", str(checkpoint), *options], words, tmp_path, capsys)


def test_a_folder_without_sinks_is_refused(tmp_path, capsys):
    assert_refused(["serve", str(tmp_path)], [str(tmp_path)], tmp_path, capsys)
