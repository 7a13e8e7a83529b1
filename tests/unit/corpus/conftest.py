import json
from pathlib import Path
from typing import Any

import pytest
from storages import WatchedFileSystem, does_nothing

from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare


@pytest.fixture
def write_rows(tmp_path: Path):
    """Write rows as a JSON-lines file in the test's folder."""

    def write(rows: list[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def stories() -> list[dict[str, Any]]:
    """Twenty distinct documents of three sources, with metadata of every kind."""
    return [
        {
            "id": f"doc-{i:02d}",
            "source": f"book-{i % 3}",
            "text": f"Story {i}. " + " ".join(f"word{(i * 7 + j) % 31}" for j in range(5 + i)),
            "number": i,
            "score": i / 4,
            "kept": i % 2 == 0,
            "group": f"g{i // 2}",
        }
        for i in range(20)
    ]


CONFIG = PrepareConfig(columns=Columns(source="source"), vocab_size=280, shard_documents=6)
"""Of the corpus that is made once."""


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Corpus:
    """A corpus that is made once, with its rows in ``rows.jsonl`` beside it."""
    folder = tmp_path_factory.mktemp("made")
    rows = [
        {
            "id": f"d{i:02d}",
            "source": f"s{i % 3}",
            "text": f"Story {i}: " + " ".join(f"w{i * j % 17}" for j in range(9)),
        }
        for i in range(20)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prepare(folder / "rows.jsonl", folder / "corpus", CONFIG)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The folder for corpora behind URLs, in the test's own."""
    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def watched(tmp_path, cache, monkeypatch) -> Path:
    """A storage behind ``watched://`` and the folder's path, which has seen nothing yet."""
    monkeypatch.setattr(WatchedFileSystem, "journal", [])
    monkeypatch.setattr(WatchedFileSystem, "between", staticmethod(does_nothing))
    (tmp_path / "storage").mkdir()
    return tmp_path / "storage"
