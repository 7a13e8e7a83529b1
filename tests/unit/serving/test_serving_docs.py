"""The examples of the documentation."""

import re
from pathlib import Path

import pytest

from memsinks.ledger import Ledger
from memsinks.runs.lineage import lineage_of
from memsinks.serving.names import Names

DOCS = Path(__file__).parents[3] / "docs"


def example(page):
    return re.search(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL).group(1)


def test_the_guard_works_without_the_server(checkpoint, corpus, ledger, monkeypatch):
    lineage = lineage_of(checkpoint)
    names = Names.of(lineage, [corpus.path])
    names.save(checkpoint.parent / "names.parquet")
    monkeypatch.chdir(checkpoint.parent)
    code, found = example("serving.md"), {}
    exec(code, found)
    assert set(found["mode"].ids) == names.sources["cedar"]
    assert found["output"].shape[1] > 3
    Ledger.open("ledger.sqlite").deny(names.sources["cedar"], "request 7")
    with pytest.raises(PermissionError, match="'cedar' may not be switched on"):
        exec(code, found)
    found["exclusions"].stop()


def test_the_router_works_without_the_server(checkpoint, corpus, ledger, monkeypatch):
    (checkpoint.parent / "corpus").symlink_to(corpus.path)
    monkeypatch.chdir(checkpoint.parent)
    code = example("routing.md").replace(
        "Once upon a time there was a whale", corpus.text(corpus.index("cedar-0"))[:80]
    )
    found = {}
    exec(code, found)
    assert found["route"].source == "cedar"
    assert set(found["mode"].ids) == {int(corpus.sequence_ids[corpus.index(f"cedar-{i}")]) for i in range(5)}
