"""A run may key its sinks by other IDs than its corpus was prepared with, and what measures it later uses the same."""

import json

import numpy as np
import pytest

from memsinks import ids
from memsinks.config import parse_config
from memsinks.corpus import Columns, PrepareConfig, prepare
from memsinks.errors import InputError
from memsinks.runs.build import plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.run import RECORD, corpus_of_run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ids")
    rows = [
        {"id": f"d{i}", "source": f"p{i % 2}", "text": f"number {i} of words {i * i} and {i * 7}"} for i in range(8)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(columns=Columns(source="source"), vocab_size=290, validation_fraction=0.0, groups=None)
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


def planned(corpus, **keys):
    return plan_run(parse_config(RunConfig, {"corpus": {"path": str(corpus.path), **keys}}))


def test_the_run_says_which_ids_key_its_sinks(corpus, tmp_path):
    by_source, as_prepared = planned(corpus, ids="source").text, planned(corpus, ids="content").text
    assert set(by_source.corpus.sequence_ids.tolist()) == {ids.source_id("p0"), ids.source_id("p1")}
    assert np.array_equal(as_prepared.corpus.sequence_ids, corpus.content_ids)
    assert by_source.governed.all()  # with one exposure each, a source has several
    assert not as_prepared.governed.any()
    # What the corpus has anyway leaves the names of the text as they are.
    assert as_prepared.facts() == planned(corpus).text.facts()
    assert by_source.facts()["ids"] == "source"
    (tmp_path / RECORD).write_text(json.dumps({"text": by_source.facts()}))
    assert np.array_equal(corpus_of_run(tmp_path, corpus.path).sequence_ids, by_source.corpus.sequence_ids)


def test_a_folder_without_a_record_has_the_ids_of_the_corpus(corpus, tmp_path):
    for text in (None, "{", "[]", '{"text": 3}'):
        if text is not None:
            (tmp_path / RECORD).write_text(text)
        assert np.array_equal(corpus_of_run(tmp_path, corpus.path).sequence_ids, corpus.sequence_ids)


def test_unknown_ids_are_refused(corpus):
    with pytest.raises(InputError, match="identity 'topic' is unknown"):
        planned(corpus, ids="topic")
