import json

import pytest

from memsinks.config import parse_config
from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare
from memsinks.runs.config import RunConfig

SMALL = {"hidden": 16, "layers": 3, "heads": 2, "width": 40}


def prepared(folder, rows, source="source", identity="content") -> Corpus:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(
        columns=Columns(source=source), vocab_size=290, validation_fraction=0.1, seed=1, identity=identity
    )
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


def documents(count=40, sources=4):
    return [
        {
            "id": f"d{i:02d}",
            "source": f"p{i % sources}",
            "text": f"Number {i}: " + " ".join(f"w{i * j % 11}" for j in range(12)),
        }
        for i in range(count)
    ]


@pytest.fixture(scope="package")
def corpus(tmp_path_factory) -> Corpus:
    """Forty documents of four sources, each with an ID of its own."""
    return prepared(tmp_path_factory.mktemp("planning"), documents())


@pytest.fixture(scope="package")
def run_config():
    """A run on a corpus; by default all text is governed and shares 60 sinks, 6 an ID."""

    def make(corpus, exposures=None, **sinks) -> RunConfig:
        return parse_config(
            RunConfig,
            {
                "corpus": {"path": str(corpus.path)},
                "model": SMALL,
                "stream": {"max_length": 32},
                "precision": {"bf16": False},
                "exposures": {"govern": "all"} if exposures is None else exposures,
                "sinks": {k: v for k, v in ({"pool": 60, "active": 6} | sinks).items() if v is not None},
            },
        )

    return make
