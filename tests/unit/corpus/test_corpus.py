import json
import pickle

import pytest

from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare
from memsinks.errors import InputError


@pytest.fixture
def corpus(tmp_path, write_rows, stories):
    config = PrepareConfig(columns=Columns(metadata=("number",)), vocab_size=280, shard_documents=6)
    return prepare(write_rows(stories), tmp_path / "corpus", config)


def test_slices_of_tokens(corpus):
    whole = corpus.tokens(13)
    assert corpus.tokens(13, 2, 5).tolist() == whole[2:5].tolist()
    whole[:] = 0  # a copy, not the file
    assert corpus.tokens(13).any()
    for outside in (-1, 20):
        with pytest.raises(IndexError, match=f"document {outside} of a corpus of 20"):
            corpus.tokens(outside)


def test_arrays_are_read_only(corpus):
    for array in (corpus.sequence_ids, corpus.content_ids, corpus.lengths, corpus.is_validation):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_names(corpus):
    assert corpus.index("doc-07") == 7
    with pytest.raises(InputError, match=r"no document 'doc-7'; did you mean 'doc-\d7'"):
        corpus.index("doc-7")
    with pytest.raises(InputError, match="names look like 'doc-00'"):
        corpus.index("~~~~")
    with pytest.raises(InputError, match="no metadata column 'score'; there are 'number'"):
        corpus.metadata("score")


def test_pickles_small(corpus):
    data = pickle.dumps(corpus)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert copy.hash == corpus.hash
    assert all(copy.tokens(i).tolist() == corpus.tokens(i).tolist() for i in range(len(corpus)))
    (corpus.path / "manifest.json").write_text((corpus.path / "manifest.json").read_text() + " ")
    with pytest.raises(InputError, match="replaced while it was in use"):
        pickle.loads(data)


def test_what_is_not_a_corpus(corpus, tmp_path):
    with pytest.raises(InputError, match=r"not a prepared corpus \(no manifest\.json\)"):
        Corpus.open(tmp_path)
    path = corpus.path / "manifest.json"
    for content, message in (
        ("{", "damaged"),
        ("[]", "not the manifest of a corpus"),
        ('{"format": "other"}', "not the manifest of a corpus"),
        (json.dumps(corpus.manifest | {"format_version": 99}), "format version 99 is not supported"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            Corpus.open(corpus.path)
