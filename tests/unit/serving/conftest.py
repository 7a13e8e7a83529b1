"""A small run whose sinks change what is written, and servers of it on a free local port."""

import shutil
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import torch
import uvicorn
from publishers import corpus, trained  # noqa: F401

import memsinks
from memsinks.ledger import Ledger
from memsinks.runs.lineage import lineage_of
from memsinks.serving.app import create_app
from memsinks.serving.names import Names
from memsinks.serving.service import Limits, Service
from memsinks.sinks.attach import sinks_of

QUICK = {"poll_seconds": 0.1}


@pytest.fixture(scope="session")
def loud(trained, tmp_path_factory):  # noqa: F811
    """A run with sinks turned up: a few dozen steps teach them too little to be seen in a text."""
    folder = tmp_path_factory.mktemp("loud") / "run"
    shutil.copytree(trained("disjoint"), folder)
    shutil.copytree(trained("disjoint").with_name("disjoint-run"), folder.with_name("run-run"))
    model = memsinks.load(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for sinks in sinks_of(model):
            for weight in (sinks.up, sinks.gate, sinks.down):
                weight.copy_(torch.randn(weight.shape, generator=generator))
    memsinks.save(model, folder)
    return folder


@pytest.fixture
def checkpoint(loud, tmp_path):
    """A copy of it that a test may change."""
    for folder in (loud, loud.with_name("run-run")):
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "run"


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.open(tmp_path / "ledger.sqlite")
    made.append("noted", "", {"text": "a beginning"})
    return made


@pytest.fixture
def service_of(corpus, ledger):  # noqa: F811
    """Makes a service of a run; ``limits`` by name."""

    def make(folder, *, deny_list=True, attenuate=None, **limits):
        names = Names.of(lineage_of(folder), [corpus.path])
        place = ledger.place if deny_list else None
        return Service.open(
            folder,
            names=lambda lineage: names,
            ledger=place,
            limits=Limits(**QUICK | limits),
            attenuate=attenuate,
            name="small",
            device="cpu",
        )

    return make


@contextmanager
def serving(service, key=None):
    """A client of a server in a thread."""
    config = uvicorn.Config(create_app(service, key=key), port=0, ws="none", log_level="error", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def wait_until(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)
