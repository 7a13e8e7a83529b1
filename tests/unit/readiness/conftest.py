import json
import random

import pytest

from memsinks.config import parse_config
from memsinks.corpus import Columns, PrepareConfig, prepare
from memsinks.planning.plan import make_plan, plan_blueprint
from memsinks.planning.question import Question
from memsinks.runs.config import RunConfig
from memsinks.runs.estimate import estimate
from memsinks.runs.memory import Geometry

WORDS = [a + b + c for a in "bdfgkl" for b in "aeiou" for c in ("n", "r", "st", "m")]


def text(seed: int, words: int = 80) -> str:
    """A text of its own."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def rows(count: int, source: str, first: int = 0, **columns):
    return [
        {"id": f"{source}-{i}", "source": source, "text": text(first + i), "held_out": False, **columns}
        for i in range(count)
    ]


def prepared(folder, documents, identity="content", **settings):
    """A corpus of these rows; whatever columns they have beside the usual ones are metadata."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    extra = tuple(dict.fromkeys(k for row in documents for k in row if k not in ("id", "source", "text", "held_out")))
    config = PrepareConfig(
        columns=Columns(source="source", metadata=extra),
        vocab_size=320,
        validation_column="held_out",
        identity=identity,
        **settings,
    )
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


@pytest.fixture(scope="package")
def planned():
    """The plan of a run on a corpus, and its blueprint."""

    def make(corpus, exposures=None, question=None, sinks=None, **keys):
        config = parse_config(
            RunConfig,
            {
                "corpus": {"path": str(corpus.path)},
                "model": {"hidden": 16, "layers": 2, "heads": 2, "width": 40},
                "stream": {"max_length": 64},
                "precision": {"bf16": False},
                "exposures": {"govern": "sources", "govern_values": ["press"]} if exposures is None else exposures,
                "sinks": {"pool": 60, "active": 6} if sinks is None else sinks,
                **keys,
            },
        )
        blueprint = plan_blueprint(config)
        like = estimate(blueprint.model_config, blueprint.sinks, Geometry(rows=2, row_tokens=32), tokens=1000)
        return make_plan(config, blueprint, like, Question(draws=5, **(question or {}))), blueprint

    return make
