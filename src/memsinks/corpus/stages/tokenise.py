"""Stages 5 and 6: a tokenizer, trained on the training split or given, and shards of tokens, one for each part."""

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks import ids
from memsinks.corpus.encoder import FOLDER, Encoder, load_encoder, save_encoder
from memsinks.corpus.shards import ShardWriter, shard_schema
from memsinks.corpus.stages.job import Job
from memsinks.corpus.stages.parts import part_batches, parts
from memsinks.corpus.stages.settle import metadata_types, settled
from memsinks.corpus.tokenizer import load_tokenizer, train_tokenizer
from memsinks.errors import InputError

TRAIN, STAGE = "tokenizer", "tokens"
IDS = pa.schema({"content_id": pa.uint64(), "sequence_id": pa.uint64(), "length": pa.int64()})
_ENCODE_DOCUMENTS, _ENCODE_BYTES = 64, 4 << 20


def train(job: Job, task: int) -> None:
    """Train the tokenizer of a round, or save the one that was given."""
    decided = settled(job, task)
    chosen = decided["kept"].to_numpy() & ~decided["validation"].to_numpy()
    with job.work.task(TRAIN, task) as folder:
        if job.config.tokenizer is not None:
            tokenizer = load_tokenizer(job.config.tokenizer)
        else:
            tokenizer = train_tokenizer(_texts(job, chosen), job.config.vocab_size)
        tokenizer.save_pretrained(folder / FOLDER)
        save_encoder(folder)


def run(job: Job, task: int, settling: int) -> None:
    """Tokenise one part, with the tokenizer and the split of a round.

    Raises:
        InputError: a document has too few tokens and bad rows stop.
    """
    decided = settled(job, settling, task)
    kept, validation, groups = (decided[name].to_numpy() for name in ("kept", "validation", "group_id"))
    shared = decided["shared_id"].to_pylist()
    encoder = load_encoder(job.work.folder(TRAIN, settling))
    with (
        job.work.task(f"{STAGE}-{settling}", task) as folder,
        ShardWriter(folder, shard_schema(metadata_types(job, settling)), max(1, len(kept))) as writer,
        (folder / "rejects.jsonl").open("w", encoding="utf-8") as rejects,
    ):
        found: list[tuple[int, int, int]] = []
        for i, row, text, stored in _encoded(job, task, encoder):
            if not kept[i]:
                found.append((0, 0, 0))
                continue
            if not len(text) or len(stored) < 2:
                why = (
                    f"{row['where']}: document {row['name']!r} becomes {len(text)} token(s), too few to train on; drop "
                    "it, or use another tokenizer"
                )
                if job.config.bad_rows == "stop":
                    raise InputError(why)
                rejects.write(json.dumps({"where": row["where"], "why": why}, ensure_ascii=False) + "\n")
                found.append((0, 0, 0))
                continue
            content_id = ids.content_id(text, key=job.config.id_key)
            kind = job.identity.kind
            sequence_id = content_id if kind == "content" else int(groups[i]) if kind == "group" else shared[i]
            metadata = json.loads(row["metadata"]) if writer.metadata else {}
            source = row["source"]
            writer.add(
                {
                    "document": row["name"],
                    "source": source,
                    "split": "validation" if validation[i] else "train",
                    "sequence_id": sequence_id,
                    "content_id": content_id,
                    "group_id": int(groups[i]),
                    "source_id": None if source is None else ids.source_id(source, key=job.config.id_key),
                    "tokens": stored,
                    **{name: metadata[name] for name in writer.metadata},
                }
            )
            found.append((content_id, sequence_id, len(stored)))
        columns = [list(column) for column in zip(*found, strict=True)] if found else [[], [], []]
        pq.write_table(pa.table(columns, schema=IDS), folder / "ids.parquet")


def written(job: Job, settling: int) -> pa.Table:
    """IDs and stored tokens of all documents, in order; a length of 0 is a document that is left out."""
    stage = f"{STAGE}-{settling}"
    return pa.concat_tables(pq.read_table(job.work.folder(stage, p) / "ids.parquet") for p in range(len(parts(job))))


def _texts(job: Job, chosen: np.ndarray) -> Iterator[str]:
    number = 0
    for part in range(len(parts(job))):
        for batch in part_batches(job, part, _ENCODE_DOCUMENTS, ["text"]):
            for text in batch["text"]:
                if chosen[number]:
                    yield text.as_py()
                number += 1


def _encoded(job: Job, part: int, encoder: Encoder) -> Iterator[tuple[int, dict[str, str], np.ndarray, np.ndarray]]:
    """Each document of a part: its number there, its row, its text's tokens, and these between the end markers."""
    bos, eos = np.array(encoder.bos, np.uint32), np.array(encoder.eos, np.uint32)
    number = 0
    for batch in part_batches(job, part, _ENCODE_DOCUMENTS):
        rows = batch.to_pylist()
        for some in _portions(rows):
            for row, text in zip(some, encoder.encode([row["text"] for row in some]), strict=True):
                yield number, row, text, np.concatenate([bos, text, eos])
                number += 1


def _portions(rows: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Rows of at most so many characters together, so that long documents do not meet in memory."""
    some: list[dict[str, str]] = []
    size = 0
    for row in rows:
        if some and size + len(row["text"]) > _ENCODE_BYTES:
            yield some
            some, size = [], 0
        some.append(row)
        size += len(row["text"])
    if some:
        yield some
