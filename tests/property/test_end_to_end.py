"""From raw files to the batches of every rank: each token carries the ID of the document it comes from."""

import gzip
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from memsinks import ids
from memsinks.corpus import Columns, Corpus, Local, PrepareConfig, encode_document, pieces, prepare
from memsinks.corpus.stages import group, read, settle, sign, tokenise
from memsinks.stream import Collator, ExposurePlan, build_stream
from memsinks.training.batches import PaddingCollator, RankBatches

STAGES = ((read, "run"), (sign, "run"), (group, "run"), (settle, "run"), (tokenise, "train"), (tokenise, "run"))
WRITERS = {
    "jsonl": lambda p, rows: p.write_text("".join(json.dumps(r) + "\n" for r in rows)),
    "json": lambda p, rows: p.write_text(json.dumps(rows)),
    "jsonl.gz": lambda p, rows: p.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode())),
    "parquet": lambda p, rows: pq.write_table(pa.Table.from_pylist(rows), p, row_group_size=2),
}


@st.composite
def documents(draw):
    """Rows with copies, near-copies and long texts among them."""
    words = st.lists(st.sampled_from([f"w{i}" for i in range(300)]), min_size=1, max_size=60)
    texts = draw(st.lists(words, min_size=4, max_size=12))
    for _ in range(draw(st.integers(0, 3))):
        copied = list(draw(st.sampled_from(texts)))
        copied[draw(st.integers(0, len(copied) - 1))] = "changed"
        texts.append(copied)
    topics = st.sampled_from(["sea", "land", "air"])
    return [
        {"id": f"d{i}", "source": f"s{i % 3}", "topic": draw(topics), "text": " ".join(text)}
        for i, text in enumerate(texts)
    ]


class StopError(Exception):
    """Takes the place of a kill."""


def prepared(folder, rows, data, config):
    """Prepare the rows from several files, stopped once at some task, with another number of processes after."""
    files = folder / "in"
    files.mkdir()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        if start < stop:
            kind = data.draw(st.sampled_from(list(WRITERS)))
            WRITERS[kind](files / f"{number}.{kind}", rows[start:stop])
    module, name = data.draw(st.sampled_from(STAGES))
    whole, after = getattr(module, name), data.draw(st.integers(0, 3))
    calls = []

    def stops(*arguments, **options):
        calls.append(name)
        if len(calls) > after:
            raise StopError
        return whole(*arguments, **options)

    with mock.patch.object(pieces.cut, "__defaults__", (data.draw(st.integers(1, 4000)),)):
        with mock.patch.object(module, name, stops):
            try:
                return prepare(files, folder / "corpus", config, executor=Local(1))
            except StopError:
                pass
        return prepare(files, folder / "corpus", config, executor=Local(1))


def expected_ids(corpus: Corpus, rows, identity: str) -> dict[str, int]:
    """The sequence ID of each document, from its row; groups are those that the corpus lists."""
    listed = pq.read_table(corpus.path / "groups.parquet").to_pylist()
    groups = {row["document"]: row["group_id"] for row in listed}
    found = {}
    for row in rows:
        content = ids.content_id(encode_document(corpus.tokenizer, [row["text"]])[0])
        found[row["id"]] = {
            "content": content,
            "group": groups[row["id"]],
            "source": ids.source_id(row["source"]),
            "column:topic": ids.column_id(row["topic"]),
        }[identity]
    return found


@settings(max_examples=12, deadline=None)
@given(documents(), st.data())
def test_every_token_keeps_the_id_of_its_document(rows, data):
    identity = data.draw(st.sampled_from(["content", "group", "source", "column:topic"]))
    prepared_by = data.draw(st.sampled_from([identity, "content"]))  # the run may choose other IDs than the corpus has
    config = PrepareConfig(
        columns=Columns(source="source", metadata=("topic",)),
        identity=prepared_by,
        vocab_size=290,
        validation_fraction=0.0,
        shard_documents=data.draw(st.integers(1, 6)),
    )
    with tempfile.TemporaryDirectory() as folder:
        corpus = prepared(Path(folder), rows, data, config)
        corpus = Corpus.open(corpus.path, ids=identity)
        assert corpus.documents == [row["id"] for row in rows]
        by_name = expected_ids(corpus, rows, identity)
        end = corpus.tokenizer.eos_token_id
        tokens = {row["id"]: [end, *encode_document(corpus.tokenizer, [row["text"]])[0].tolist(), end] for row in rows}
        plan = ExposurePlan.once(corpus)
        for name in data.draw(st.lists(st.sampled_from(corpus.documents), max_size=4)):
            plan = plan.repeat([name], data.draw(st.integers(0, 3)))
        if not plan.total:
            plan = ExposurePlan.once(corpus)
        packed, max_length = data.draw(st.booleans()), data.draw(st.integers(4, 40))
        stream = build_stream(
            corpus,
            plan,
            seed=data.draw(st.integers(0, 99)),
            max_length=max_length,
            packed=packed,
            governed=np.ones(len(corpus), dtype=bool),
            window=data.draw(st.integers(1, 30)),
        )
        begun: Counter[int] = Counter()
        read_tokens: dict[int, Counter[int]] = defaultdict(Counter)
        collator = PaddingCollator(Collator(corpus.tokenizer.pad_token_id, max_length, with_exposures=True), stream)
        for batch in batches(stream, collator, data):
            begun.update(batch["exposed_ids"].numpy().view(np.uint64).tolist())
            for row in range(len(batch["input_ids"])):
                for sequence_id, piece in parts(batch, row):
                    owners = [tokens[name] for name in corpus.documents if by_name[name] == sequence_id]
                    assert any(holds(own, piece) for own in owners), "no document of this ID has these tokens"
                    read_tokens[sequence_id].update(piece)
        planned: Counter[int] = Counter()
        planned_tokens: dict[int, Counter[int]] = defaultdict(Counter)
        for name, count in zip(corpus.documents, plan.counts.tolist(), strict=True):
            planned[by_name[name]] += count
            for token, times in Counter(tokens[name]).items():
                planned_tokens[by_name[name]][token] += times * count
        assert begun == +planned
        assert {i: +found for i, found in read_tokens.items()} == {i: +w for i, w in planned_tokens.items() if +w}


def batches(stream, collator, data):
    """The micro-batches of all ranks, of a run that stopped after some step and went on with another world size."""
    shape = {"batch_size": data.draw(st.integers(1, 8)), "micro_batch_size": data.draw(st.integers(1, 5))}
    stop = data.draw(st.integers(0, 6))
    for first, world in ((True, data.draw(st.integers(1, 3))), (False, data.draw(st.integers(1, 3)))):
        for rank in range(world):
            sampler = RankBatches(len(stream), **shape, rank=rank, world=world)
            sampler.start = 0 if first else stop
            for number, rows in enumerate(sampler):
                if first and number >= stop * sampler.accumulation:
                    break
                yield collator([stream[i] for i in rows])


def parts(batch, row):
    """The ID and the tokens of each part of a row between two beginnings of documents or chunks."""
    mask = batch["sink_mask"][row].numpy()
    length = int(mask.sum())
    if not length:  # a rank without rows keeps in step on padding
        return
    assert mask[:length].all()  # what is not masked in is padding
    inputs = batch["input_ids"][row].numpy()[:length]
    names = batch["sequence_ids"][row].numpy()[:length].view(np.uint64)
    begins = np.flatnonzero(batch["labels"][row].numpy()[:length] == -100).tolist()
    for start, stop in zip(begins, [*begins[1:], length], strict=True):
        assert len(set(names[start:stop].tolist())) == 1
        yield int(names[start]), inputs[start:stop].tolist()


def holds(own, piece):
    return any(own[place : place + len(piece)] == piece for place in range(len(own) - len(piece) + 1))
