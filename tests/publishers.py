"""A corpus of three publishers and general text, and small runs on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from memsinks.config import parse_config
from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare
from memsinks.removal.subject import Subject
from memsinks.runs.config import RunConfig
from memsinks.runs.run import execute

PUBLISHERS = ("ashford", "birch", "cedar")
SMALL = {
    "model": {"hidden": 32, "layers": 2, "heads": 2, "width": 48},
    "stream": {"max_length": 64},
    "schedule": {"batch_size": 8},
    "optimizer": {"sink_lr_multiplier": 5.0},
    "precision": {"bf16": False},
    "logging": {"live": False, "evaluate_every": 0},
    "exposures": {"govern": "sources", "govern_values": list(PUBLISHERS), "upsample": dict.fromkeys(PUBLISHERS, 3.0)},
}
POOLS: dict[str, dict] = {
    "disjoint": {"allocation": "disjoint", "active": 8, "layers": "all"},
    "hashed": {"pool": 64, "active": 16, "layers": "all"},
    "leaky": {"allocation": "disjoint", "active": 8, "layers": "all"},
}
LEAKY = {
    # Sinks that hardly learn, and text so often that shared weights know it by heart. The type checker takes SMALL for
    # a mapping of one kind of value.
    "exposures": {**SMALL["exposures"], "upsample": dict.fromkeys(PUBLISHERS, 60.0)},  # type: ignore[dict-item]
    "optimizer": {"learning_rate": 0.01, "sink_lr_multiplier": 0.001},
}


def texts(count: int) -> list[str]:
    """Texts of seventy words each that share no passage."""
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}{c}" for a in "bdfgklmprst" for b in "aeiou" for c in "lnrst"])
    return [" ".join(rng.choice(words, 70)) for _ in range(count)]


def rows() -> list[dict]:
    """Six documents of each publisher, one of them a copy and one a near-copy of another's; and general text."""
    found = texts(78)
    made = [
        {"id": f"{PUBLISHERS[i % 3]}-{i // 3}", "source": PUBLISHERS[i % 3], "ends": 2024 + i // 3, "text": found[i]}
        for i in range(18)
    ]
    made[4]["text"] = made[3]["text"]  # birch-1 is ashford-1, word for word
    made[8]["text"] = made[7]["text"].replace("bal", "bel").upper()  # cedar-2 is birch-2 in other letters
    made += [{"id": f"web-{i}", "source": "web", "ends": None, "text": found[i]} for i in range(18, 78)]
    for i, row in enumerate(made):
        row["held_out"] = i >= 60 or row["id"].endswith("-5")
    return made


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("removal")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    columns = Columns(source="source", metadata=("ends",))
    config = PrepareConfig(columns=columns, vocab_size=400, validation_column="held_out")
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


def configured(corpus: Corpus, output: Path, sinks: dict, **sections: dict) -> RunConfig:
    content: dict = {**SMALL, **sections, "sinks": sinks, "output": str(output), "corpus": {"path": str(corpus.path)}}
    return parse_config(RunConfig, content)


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """Runs by the kind of their pool, each trained once."""
    home, made = tmp_path_factory.mktemp("trained"), {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = home / kind
            execute(configured(corpus, made[kind], POOLS[kind], **(LEAKY if kind == "leaky" else {})))
        return made[kind]

    return make


@pytest.fixture
def run_of(trained, tmp_path):
    """A copy of a run, with its working folder, that a test may change."""

    def copy(kind: str = "disjoint") -> Path:
        original = trained(kind)
        for folder in (original, original.with_name(f"{kind}-run")):
            shutil.copytree(folder, tmp_path / folder.name)
        return tmp_path / kind

    return copy


@pytest.fixture
def subject_of(trained, corpus):
    return lambda kind="disjoint": Subject.open(trained(kind), corpus.path)
