import errno
import hashlib
import json
import resource
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from transformers import AutoTokenizer

from memsinks import ids
from memsinks.corpus import Columns, Corpus, PrepareConfig, encode_document, prepare, shards, split, tokenizer
from memsinks.corpus.stages import read
from memsinks.errors import InputError

COLUMNS = Columns(source="source", metadata=("number", "score", "kept"))
CONFIG = PrepareConfig(columns=COLUMNS, vocab_size=300, validation_fraction=0.2)


def with_changes(**changes) -> PrepareConfig:
    return PrepareConfig(**({"columns": COLUMNS, "vocab_size": 300, "validation_fraction": 0.2} | changes))


def test_a_corpus_holds_what_went_in(tmp_path, write_rows, stories):
    corpus = prepare([write_rows(stories)], tmp_path / "corpus", with_changes(shard_documents=7))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "data.jsonl"]
    assert corpus.manifest["shards"] == ["shard-00000.arrow", "shard-00001.arrow", "shard-00002.arrow"]
    assert corpus.documents == [s["id"] for s in stories]
    assert corpus.sources == [s["source"] for s in stories]
    assert corpus.metadata("number") == [s["number"] for s in stories]
    assert corpus.metadata("score") == [s["score"] for s in stories]
    assert corpus.metadata("kept") == [s["kept"] for s in stories]
    assert corpus.is_validation.sum() == 4
    end = corpus.tokenizer.eos_token_id
    for i, story in enumerate(stories):
        tokens = corpus.tokens(i)
        assert tokens.dtype == np.int64
        assert len(tokens) == corpus.lengths[i]
        assert tokens[0] == tokens[-1] == end
        assert corpus.tokenizer.decode(tokens[1:-1]) == story["text"]
        assert corpus.content_ids[i] == ids.content_id(tokens[1:-1])
    assert (corpus.sequence_ids == corpus.content_ids).all()


def test_the_manifest(tmp_path, write_rows, stories):
    data = write_rows(stories)
    corpus = prepare([data], tmp_path / "corpus", with_changes(identity="source"))
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert (manifest["format"], manifest["format_version"]) == ("memsinks-corpus", 1)
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert manifest["inputs"] == [{"name": "data.jsonl", "bytes": data.stat().st_size, "sha256": digest}]
    # The log has times in it, so it stays outside: two preparations have one manifest.
    assert set(manifest["files"]) == {
        str(p.relative_to(corpus.path))
        for p in corpus.path.rglob("*")
        if p.is_file() and p.name not in ("manifest.json", "prepare.log")
    }
    for name, chosen in (("train", ~corpus.is_validation), ("validation", corpus.is_validation)):
        tokens = int(corpus.lengths[chosen].sum())
        assert manifest["splits"][name] == {"documents": int(chosen.sum()), "tokens": tokens}
    assert [row["source"] for row in manifest["sources"]] == ["book-0", "book-1", "book-2"]
    assert sum(row["validation_documents"] for row in manifest["sources"]) == 4
    assert sum(row["tokens"] for row in manifest["sources"]) == corpus.lengths.sum()
    assert manifest["sources"][1]["sequence_id"] == ids.format_id(ids.source_id("book-1"))
    assert str(tmp_path) not in (tmp_path / "corpus" / "manifest.json").read_text()


def test_preparing_again_gives_the_same_bytes(tmp_path, write_rows, stories):
    data = write_rows(stories)
    assert prepare(data, tmp_path / "a", CONFIG).hash == prepare(data, tmp_path / "b", CONFIG).hash


def test_ids_and_split_do_not_depend_on_order_or_shards(tmp_path, write_rows, stories):
    a = prepare(write_rows(stories, "a.jsonl"), tmp_path / "a", CONFIG)
    b = prepare(write_rows(stories[::-1], "b.jsonl"), tmp_path / "b", with_changes(shard_documents=3))
    assert a.sequence_ids.tolist() == b.sequence_ids.tolist()[::-1]
    assert a.is_validation.tolist() == b.is_validation.tolist()[::-1]


def test_a_dataset_object_and_a_given_tokenizer(tmp_path, write_rows, stories):
    first = prepare(write_rows(stories), tmp_path / "a", CONFIG)
    settings = with_changes(tokenizer=first.path / "tokenizer")
    second = prepare(datasets.Dataset.from_list(stories), tmp_path / "b", settings)
    assert (first.sequence_ids == second.sequence_ids).all()
    assert second.manifest["inputs"] == [{"name": "dataset"}]
    assert second.manifest["config"]["tokenizer"] == "tokenizer"


def test_the_tokenizer_sees_training_text_only(tmp_path, write_rows, stories):
    corpus = prepare(write_rows(stories), tmp_path / "a", CONFIG)
    training = [s["text"] for s, held_out in zip(stories, corpus.is_validation, strict=True) if not held_out]
    expected = tokenizer.train_tokenizer(training, 300).get_vocab()
    assert corpus.tokenizer.get_vocab() == expected
    assert tokenizer.train_tokenizer([s["text"] for s in stories], 300).get_vocab() != expected


def test_no_copy_of_a_training_document_is_held_out(tmp_path, write_rows, stories):
    copies = [s | {"id": s["id"] + "-copy", "text": "  " + s["text"].upper().replace(" ", "\n")} for s in stories]
    corpus = prepare(write_rows(stories + copies), tmp_path / "a", CONFIG)
    assert corpus.is_validation.sum() == 8
    assert (corpus.is_validation[:20] == corpus.is_validation[20:]).all()


def test_no_group_is_split(tmp_path, write_rows, stories):
    corpus = prepare(write_rows(stories), tmp_path / "a", with_changes(identity="column:group"))
    assert corpus.is_validation.sum() == 4
    assert (corpus.is_validation[::2] == corpus.is_validation[1::2]).all()
    assert corpus.sequence_ids[6] == corpus.sequence_ids[7] == ids.column_id("g3")
    assert corpus.metadata("group")[7] == "g3"


def test_copies_under_a_lossy_tokenizer_stay_together(tmp_path, write_rows, stories):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({w for s in stories for w in s["text"].lower().replace(".", "").split()})
    lossy = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["?", *words])}, unk_token="?"))
    lossy.normalizer = normalizers.Sequence([normalizers.Replace("!", ""), normalizers.Replace(".", "")])
    lossy.normalizer = normalizers.Sequence([lossy.normalizer, normalizers.Lowercase()])
    lossy.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=lossy, unk_token="?").save_pretrained(tmp_path / "lossy")
    copies = [s | {"id": s["id"] + "-copy", "text": s["text"] + "!"} for s in stories]
    corpus = prepare(write_rows(stories + copies), tmp_path / "a", with_changes(tokenizer=tmp_path / "lossy"))
    assert (corpus.content_ids[:20] == corpus.content_ids[20:]).all()
    assert corpus.is_validation.sum() == 8
    assert (corpus.is_validation[:20] == corpus.is_validation[20:]).all()
    assert sorted(p.name for p in corpus.path.glob("*.arrow")) == corpus.manifest["shards"]


def test_sources_may_be_split(tmp_path, write_rows, stories):
    corpus = prepare(write_rows(stories), tmp_path / "a", with_changes(identity="source"))
    assert set(corpus.sequence_ids.tolist()) == {ids.source_id(f"book-{i}") for i in range(3)}
    shared = set(corpus.sequence_ids[corpus.is_validation]) & set(corpus.sequence_ids[~corpus.is_validation])
    assert shared


def test_integer_ids_are_taken_as_they_are(tmp_path, write_rows, stories):
    for i, story in enumerate(stories):
        story["sid"] = 2**64 - 1 - i
    corpus = prepare(write_rows(stories), tmp_path / "a", with_changes(identity="column:sid"))
    assert corpus.sequence_ids.tolist() == [s["sid"] for s in stories] == corpus.metadata("sid")


def test_an_identity_column_with_the_name_of_a_stored_one(tmp_path, write_rows, stories):
    rows = [s | {"sequence_id": 100 + i} for i, s in enumerate(stories)]
    for name in ("sequence_id", "source"):
        corpus = prepare(
            write_rows(rows), tmp_path / name, with_changes(identity=f"column:{name}", validation_fraction=0.4)
        )
        assert corpus.sequence_ids.tolist() == [ids.column_id(row[name]) for row in rows]
        assert list(corpus.manifest["metadata"]) == ["number", "score", "kept"]


def test_keyed_ids(tmp_path, write_rows, stories):
    data, key = write_rows(stories), b"a very secret key"
    corpus = prepare(data, tmp_path / "a", with_changes(id_key=key))
    assert corpus.content_ids[0] == ids.content_id(corpus.tokens(0)[1:-1], key=key)
    text = (tmp_path / "a" / "manifest.json").read_text()
    assert "secret" not in text
    assert key.hex() not in text
    assert hashlib.sha256(data.read_bytes()).hexdigest() not in text  # would confirm a one-document file
    assert corpus.manifest["config"]["keyed"] is True
    assert corpus.manifest["config"]["key_fingerprint"] == hashlib.sha256(key).hexdigest()[:8]
    assert "secret" not in repr(with_changes(id_key=key))


def rows_with(stories, i, **changes):
    return [s | changes if n == i else s for n, s in enumerate(stories)]


def test_no_input_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="no input is named"):
        prepare([], tmp_path / "corpus")
    assert not list(tmp_path.iterdir())


BAD_INPUT = {
    "empty corpus": (lambda s: [], {}, "holds no document"),
    "null text": (lambda s: rows_with(s, 3, text=None), {}, r"data\.jsonl:4: column 'text' is null"),
    "duplicate id": (lambda s: rows_with(s, 3, id="doc-00"), {}, r"data\.jsonl:4: the document name 'doc-00'"),
    "no source": (
        lambda s: rows_with(s, 3, source=None),
        {"identity": "source"},
        r"data\.jsonl:4: document 'doc-03' has no source",
    ),
    "no identity column": (lambda s: s, {"identity": "column:sid"}, r"data\.jsonl:1: no column 'sid'"),
    "ID too large": (
        lambda s: rows_with([x | {"sid": 1} for x in s], 3, sid=2**64),
        {"identity": "column:sid"},
        r"data\.jsonl:4: column 'sid' .* outside \[0, 2\*\*64\)",
    ),
    "ID negative": (
        lambda s: rows_with([x | {"sid": 1} for x in s], 3, sid=-1),
        {"identity": "column:sid"},
        r"data\.jsonl:4: column 'sid' .*sequence ID -1 is outside",
    ),
    "ID fractional": (lambda s: s, {"identity": "column:score"}, r"data\.jsonl:1: column 'score' .*not 0\.0"),
    "ID null": (
        lambda s: rows_with(s, 3, group=None),
        {"identity": "column:group"},
        r"data\.jsonl:4: column 'group' .*not None",
    ),
    "mixed metadata": (
        lambda s: rows_with(s, 3, number="three"),
        {},
        r"data\.jsonl:4: column 'number' holds a string here and a integer at .*:1",
    ),
    "huge metadata": (lambda s: rows_with(s, 3, number=2**64), {}, "column 'number' holds integers .* fit neither"),
    "inexact metadata": (
        lambda s: rows_with(s, 3, score=2**60 + 1),
        {},
        "column 'score' holds fractional numbers and integers .*cannot hold exactly",
    ),
    "reserved metadata": (
        lambda s: [x | {"split": "a"} for x in s],
        {"columns": Columns(metadata=("split",))},
        "metadata column 'split' has the name",
    ),
    "one document": (lambda s: s[:1], {}, "all 1 document.* belong together"),
    "no tokenizer": (lambda s: s, {"tokenizer": "/nowhere/at/all"}, "no tokenizer can be loaded from here"),
}


def left(folder):
    """What is in a folder beside the finished parts of a preparation."""
    return [p for p in folder.iterdir() if p.name != ".corpus.preparing"]


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_makes_no_corpus(tmp_path, write_rows, stories, case):
    change, settings, message = BAD_INPUT[case]
    data = write_rows(change(stories))
    with pytest.raises(InputError, match=message):
        prepare([data], tmp_path / "corpus", with_changes(**settings))
    assert left(tmp_path) == [data]


BAD_SETTINGS = {
    "identity": ({"identity": "hash"}, "identity 'hash' is unknown; choose content"),
    "column without name": ({"identity": "column:"}, "identity 'column:' is unknown"),
    "fraction": ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
    "negative": ({"validation_fraction": -0.1}, "validation_fraction is -0.1"),
    "shards": ({"shard_documents": 0}, "shard_documents is 0"),
    "vocabulary": ({"vocab_size": 100}, "vocab_size is 100"),
    "key": ({"id_key": b""}, "id_key is empty"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings(case):
    settings, message = BAD_SETTINGS[case]
    with pytest.raises(InputError, match=message):
        with_changes(**settings)


def test_existing_output(tmp_path, write_rows, stories):
    data = write_rows(stories)
    (tmp_path / "empty").mkdir()
    assert len(prepare(data, tmp_path / "empty", CONFIG)) == 20
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    for output in (tmp_path / "empty", data):
        with pytest.raises(InputError, match="already exists and is not an empty folder"):
            prepare(data, output, CONFIG)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_a_file_that_outgrows_the_disk(tmp_path, write_rows, stories):
    data = write_rows([s | {"text": s["text"] * 50} for s in stories])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match=r"corpus: no space left to write it .*free space"):
            prepare(data, tmp_path / "corpus", CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left(tmp_path) == [data]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Exception("No space left on device (os error 28)")]
)
@pytest.mark.parametrize("place", ["_record_batch", "save_pretrained"])
def test_a_full_disk(tmp_path, write_rows, stories, monkeypatch, error, place):
    def fail(*_, **__):
        raise error

    target = shards if place == "_record_batch" else "transformers.PreTrainedTokenizerFast"
    if isinstance(target, str):
        monkeypatch.setattr(f"{target}.{place}", fail)
    else:
        monkeypatch.setattr(target, place, fail)
    data = write_rows(stories)
    with pytest.raises(InputError, match=r"corpus: no space left to write it"):
        prepare(data, tmp_path / "corpus", CONFIG)
    assert left(tmp_path) == [data]


def test_an_interrupt_makes_no_corpus(tmp_path, write_rows, stories, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_record_batch", interrupt)
    data = write_rows(stories)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, tmp_path / "corpus", CONFIG)
    assert left(tmp_path) == [data]


@pytest.mark.parametrize("change", ["replaced", "shorter", "longer"])
def test_input_that_changes_while_it_is_read(tmp_path, write_rows, stories, monkeypatch, change):
    data = write_rows(stories)
    lines = data.read_text().splitlines(keepends=True)
    new = {"replaced": [lines[0].replace("Story", "Tale"), *lines[1:]], "shorter": lines[:-1]}
    new["longer"] = [*lines, json.dumps(stories[0] | {"id": "new"})]

    def hash_and_change(text):
        data.write_text("".join(new[change]))
        return split.text_hash(text)

    monkeypatch.setattr(read, "text_hash", hash_and_change)
    with pytest.raises(InputError, match="changed while it was being read"):
        prepare(data, tmp_path / "corpus", CONFIG)
    assert left(tmp_path) == [data]


def test_altered_corpora_are_refused(tmp_path, write_rows, stories):
    corpus = prepare(write_rows(stories), tmp_path / "good", CONFIG)
    Corpus.open(corpus.path)
    for name in corpus.manifest["files"]:
        copy = tmp_path / "copy"
        shutil.copytree(corpus.path, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(InputError, match=rf"{Path(name).name}: altered since"):
            Corpus.open(copy)
        (copy / name).unlink()
        with pytest.raises(InputError, match=rf"{Path(name).name}: this file of the corpus is missing"):
            Corpus.open(copy)
        shutil.rmtree(copy)


def test_a_stock_loader_reads_the_tokenizer(tmp_path, write_rows, stories):
    corpus = prepare(write_rows(stories), tmp_path / "a", CONFIG)
    stock = AutoTokenizer.from_pretrained(corpus.path / "tokenizer")
    assert encode_document(stock, [stories[0]["text"]])[0].tolist() == corpus.tokens(0)[1:-1].tolist()
