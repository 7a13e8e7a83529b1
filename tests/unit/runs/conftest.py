"""A small corpus, and runs on it whose settings a test names."""

import json
from pathlib import Path

import numpy as np
import pytest

from memsinks.config import parse_config
from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare
from memsinks.runs.config import RunConfig

WIDTH = 40
SMALL = {
    "model.hidden": 16, "model.layers": 2, "model.heads": 2, "model.width": WIDTH, "stream.max_length": 32,
    "precision.bf16": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """Twenty-four documents of three sources; the fifth is a copy of the second, so that they share an ID."""
    folder = tmp_path_factory.mktemp("build")
    rows = [
        {
            "id": f"d{i:02d}",
            "source": f"p{i % 3}",
            "text": f"Number {i}: " + " ".join(f"w{i * j % 11}" for j in range(12)),
        }
        for i in range(24)
    ]
    rows[5]["text"] = rows[2]["text"]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(columns=Columns(source="source"), vocab_size=290, validation_fraction=0.2, seed=1)
    made = prepare(folder / "rows.jsonl", folder / "corpus", config)
    assert made.sequence_ids[2] == made.sequence_ids[5]
    return made


@pytest.fixture
def configured(corpus):
    def make(**settings: object) -> RunConfig:
        content: dict = {}
        for key, value in {"corpus.path": str(corpus.path), **SMALL, **spelled(settings)}.items():
            section, _, name = key.rpartition(".")
            (content.setdefault(section, {}) if section else content)[name] = value
        return parse_config(RunConfig, content)

    return make


def spelled(settings: dict) -> dict:
    """``sinks__pool=8`` stands for ``sinks.pool = 8``."""
    return {key.replace("__", "."): str(v) if isinstance(v, Path) else v for key, v in settings.items()}


def training(corpus: Corpus, count: int) -> list[str]:
    """Names of training documents with IDs of their own, in the corpus's order."""
    once = [i for i in np.flatnonzero(~corpus.is_validation) if i not in (2, 5)]
    return [corpus.documents[i] for i in once[:count]]


def ids(corpus: Corpus, names: list[str]) -> list[int]:
    return [int(corpus.sequence_ids[corpus.index(name)]) for name in names]
