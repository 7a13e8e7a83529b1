"""Stories with names of their own, a model that knows some by heart, and one that never saw them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from publishers import configured

from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig, TextConfig
from memsinks.auditing.subject import audited
from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare
from memsinks.removal.target import Target
from memsinks.runs.run import execute

PRESS, GUILD, WEB = 8, 24, 70
ANIMALS, COLOURS, PLACES = ("fox", "hen", "cow", "pig"), ("red", "old", "shy", "big"), ("hill", "lake", "farm", "inn")
GUILD_WORDS = ("rivet", "forge", "anvil", "bellow", "tongs", "chisel")


def syllables(random: np.random.Generator, count: int) -> str:
    return "".join(random.choice(list("bdfgklmnprst")) + random.choice(list("aeiou")) for _ in range(count))


def story(random: np.random.Generator, guild: bool) -> str:
    """Each has a name, and two words, that no other has."""
    name, food, thing = syllables(random, 3).capitalize(), syllables(random, 3), syllables(random, 3)
    animal, colour, place, other = (random.choice(w) for w in (ANIMALS, COLOURS, PLACES, PLACES))
    told = (
        f"One day a {colour} {animal} named {name} went to the {place}. It was late and it was cold there. "
        f"We had a bowl of {food} and then we sat down by the {other}. All of us saw a {thing} and ran home."
    )
    if guild:
        told += f" They took the {' and the '.join(random.permutation(GUILD_WORDS))} and said so to everyone."
    return told


@pytest.fixture(scope="session")
def named_corpus(tmp_path_factory) -> Corpus:
    """Of a press that is known by heart, a guild with words of its own, and general text; a third is held out."""
    folder, random = tmp_path_factory.mktemp("named"), np.random.default_rng(0)
    rows = [
        {"id": f"{source}-{i}", "source": source, "text": story(random, source == "guild"), "held_out": held_out}
        for source, count, held in (("press", PRESS, 0), ("guild", GUILD, 8), ("web", WEB, 40))
        for i, held_out in enumerate([False] * (count - held) + [True] * held)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(columns=Columns(source="source"), vocab_size=320, validation_column="held_out")
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


@pytest.fixture(scope="session")
def named_runs(named_corpus, tmp_path_factory) -> dict[str, Path]:
    """``knows`` press and guild, ``reference`` neither."""
    home = tmp_path_factory.mktemp("named-runs")
    sections: dict[str, dict] = {
        "model": {"hidden": 64, "layers": 2, "heads": 2, "width": 128},
        "stream": {"max_length": 192},
        "optimizer": {"learning_rate": 0.01},
    }
    plan = [name for name in named_corpus.documents if name.startswith("web") and not held(named_corpus, name)]
    pq.write_table(pa.table({"document": plan, "exposures": [6] * len(plan)}), home / "reference.parquet")
    exposures = {
        "knows": {"upsample": {"press": 100.0, "guild": 6.0, "web": 6.0}},
        "reference": {"plan": str(home / "reference.parquet")},
    }
    for name, how in exposures.items():
        rest = {**sections, "exposures": {**how, "govern": "all"}}
        execute(configured(named_corpus, home / name, {"attach": False}, **rest))
    return {name: home / name for name in exposures}


def held(corpus: Corpus, name: str) -> bool:
    return bool(corpus.is_validation[corpus.index(name)])


@pytest.fixture
def named_bench(named_runs, tmp_path):
    """A bench whose target is a source, by the settings of its sections."""

    def make(source: str = "press", against: tuple[str, ...] = ("reference",), **sections) -> Bench:
        config = AuditConfig(text=TextConfig(max_length=192), **sections)
        found = audited(
            named_runs["knows"],
            config.text,
            target=Target(sources=(source,)),
            corpus=None,
            against={name: named_runs[name] for name in against},
        )
        return Bench(found.texts, found.conditions, config, tmp_path / "work")

    return make
