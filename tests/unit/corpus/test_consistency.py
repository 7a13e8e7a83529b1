"""Planted faults of identity are counted, and nothing else is."""

import json

import numpy as np
import pytest

from memsinks import ids
from memsinks.corpus import Columns, Corpus, PrepareConfig, consistency, prepare


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twelve unlike documents of four sources; a near-copy of one and a reprint of another, and a shared clause."""
    random = np.random.default_rng(2)

    def words(count):
        return [f"w{w}" for w in random.integers(0, 5000, count)]

    texts = {f"d{i:02d}": words(100) for i in range(12)}
    texts["near"] = [*texts["d00"][:50], "changed", *texts["d00"][51:]]
    texts["reprint"] = texts["d01"]
    clause = words(40)
    texts["d02"] += clause
    texts["d03"] = [*clause, *texts["d03"]]
    sources = {"near": "Echo", "reprint": "north", "d04": "echo.", "d05": None}
    rows = [
        {"id": name, "source": sources.get(name, ["north", "south", "west"][i % 3]), "text": " ".join(text)}
        for i, (name, text) in enumerate(texts.items())
    ]
    folder = tmp_path_factory.mktemp("consistency")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(columns=Columns(source="source"), vocab_size=400, validation_fraction=0.0)
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


def test_near_copies_under_other_ids_are_strays(corpus):
    found = consistency(corpus)
    assert found.ids == "content"
    assert found.documents == 14
    (torn,) = found.torn  # the reprint has the content of d01, and so its ID
    assert sorted(name for names in torn.documents.values() for name in names) == ["d00", "near"]
    lengths = [int(corpus.lengths[corpus.index(name)]) for name in ("d00", "near")]
    assert torn.strays == min(lengths)
    assert found.stray_share == torn.strays / corpus.lengths.sum()
    assert found.spanning == {ids.format_id(int(corpus.content_ids[1])): ["north", "south"]}
    assert found.variants == [["Echo", "echo."]]
    assert found.without_source == 1
    assert found.passages_across == 1
    assert 0 < found.collision < 1e-15
    assert json.loads(json.dumps(found.to_json()))["torn"][0]["strays"] == torn.strays


def test_groups_as_ids_leave_no_strays(corpus):
    found = consistency(Corpus.open(corpus.path, ids="group"))
    assert found.ids == "group"
    assert not found.torn
    assert found.stray_share == 0
    assert len(found.spanning) == 2


def test_held_out_documents_are_not_judged(corpus, tmp_path):
    rows = [{"id": n, "text": corpus.text(corpus.index(n)), "held": n == "near"} for n in ("d00", "near", "d06")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(vocab_size=400, validation_column="held")
    found = consistency(prepare(tmp_path / "rows.jsonl", tmp_path / "corpus", config))
    assert (found.documents, found.torn) == (2, [])
