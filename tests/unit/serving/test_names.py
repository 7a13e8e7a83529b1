"""Names of what trained with sinks, and their file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memsinks.checkpoint.lineage import Lineage
from memsinks.errors import InputError
from memsinks.runs.lineage import lineage_of
from memsinks.serving.names import Names


@pytest.fixture
def names(loud, corpus):
    return Names.of(lineage_of(loud), [corpus.path])


def test_names_are_those_of_documents_that_trained_with_sinks(names, corpus):
    assert set(names.sources) == {"ashford", "birch", "cedar"}
    assert set(names.documents) == {f"{source}-{i}" for source in names.sources for i in range(5)}
    for i, (name, source) in enumerate(zip(corpus.documents, corpus.sources, strict=True)):
        if name in names.documents:
            assert names.documents[name] == {int(corpus.sequence_ids[i])}
            assert names.documents[name] <= names.sources[source]


def test_a_file_holds_the_same_and_no_text(names, corpus, loud, tmp_path):
    file = tmp_path / "names.parquet"
    names.save(file)
    read = Names.load(file, lineage_of(loud))
    assert (read.documents, read.sources) == (names.documents, names.sources)
    assert pq.read_schema(file).names == ["document", "source", "sequence_id"]
    assert [path.name for path in tmp_path.iterdir()] == ["names.parquet"]
    with pytest.raises(InputError, match="exists"):
        names.save(file)


def test_a_corpus_of_another_run_is_refused(corpus):
    with pytest.raises(InputError, match="was not trained on this corpus"):
        Names.of(Lineage(), [corpus.path])


@pytest.mark.parametrize("damage", ["text", "columns", "version", "another"])
def test_other_files_are_refused(damage, names, loud, tmp_path):
    file, lineage = tmp_path / "names.parquet", lineage_of(loud)
    match damage:
        case "text":
            file.write_text("names")
            words = "is no file of names"
        case "columns":
            pq.write_table(pa.table({"document": np.arange(3)}), file)
            words = "is no file of names"
        case "version":
            names.save(file)
            table = pq.read_table(file)
            facts = table.schema.metadata[b"memsinks"].replace(b'"format_version": 1', b'"format_version": 2')
            pq.write_table(table.replace_schema_metadata({b"memsinks": facts}), file)
            words = "has format version 2"
        case "another":
            names.save(file)
            words, lineage = "another corpus", Lineage()
    with pytest.raises(InputError, match=words):
        Names.load(file, lineage)
