"""Stage 1: the input, read once, as parts of documents in one form, with what is known of each before any token.

A task writes ``part-*.parquet`` (:data:`PART`), ``facts.parquet`` (:data:`FACTS`, a row a document, in order),
``rejects.jsonl`` and ``report.json``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.corpus import storage
from memsinks.corpus.metadata import MetadataTypes
from memsinks.corpus.pieces import Piece, share
from memsinks.corpus.readers import Document, table_documents
from memsinks.corpus.split import text_hash
from memsinks.corpus.stages.job import Job
from memsinks.errors import InputError

STAGE = "read"
PART = pa.schema(
    {
        "name": pa.string(),
        "source": pa.string(),
        "text": pa.large_string(),
        "metadata": pa.string(),
        "where": pa.string(),
    }
)
FACTS = pa.schema(
    {
        "name": pa.string(),
        "source": pa.string(),
        "where": pa.string(),
        "part": pa.int32(),
        "text_hash": pa.binary(16),
        "shared_id": pa.uint64(),
        "held_out": pa.bool_(),
        "bytes": pa.int64(),
    }
)
_ROW = pa.unify_schemas([PART, FACTS])
_GROUP_BYTES, _GROUP_ROWS = 8 << 20, 2048


def run(job: Job, task: int) -> None:
    """Read the pieces of one task.

    Raises:
        InputError: a file cannot be read, a row cannot be used and bad rows stop, or a file changed meanwhile.
    """
    with job.work.task(STAGE, task) as folder, (folder / "rejects.jsonl").open("w", encoding="utf-8") as rejects:
        _Reader(job, folder, rejects).read(task)


class _Reader:
    def __init__(self, job: Job, folder: Path, rejects: TextIO) -> None:
        self.job, self.folder, self.rejects = job, folder, rejects
        self.types = MetadataTypes(job.columns.stored())
        self.documents, self.rejected, self.parts, self.in_part, self.part_bytes = 0, 0, 0, 0, 0
        self.rows: list[dict[str, Any]] = []
        self.waiting = 0
        self.part: Any = None
        # Texts of one part. Compressed input has fewer bytes than its text, so these parts are more and smaller.
        self.most = share(sum(piece.bytes for pieces in job.reading for piece in pieces))

    def read(self, task: int) -> None:
        inputs: dict[str, dict[str, Any]] = {}
        with pq.ParquetWriter(self.folder / "facts.parquet", FACTS) as facts:
            for piece in self.job.reading[task]:
                for _, place in piece.table.files():
                    inputs[str(place)] = _record(place, piece, self.job.config.id_key)
                for row in self._rows(piece):
                    self._add(row, facts)
                for _, place in piece.table.files():
                    if storage.state(place) != inputs[str(place)]["state"]:
                        raise InputError(f"{place}: the input changed while it was being read; run again")
            self._end_part(facts)
        report = {
            "documents": self.documents,
            "parts": self.parts,
            "rejected": self.rejected,
            "metadata": self.types.to_json(),
            "inputs": inputs,
        }
        (self.folder / "report.json").write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")

    def _rows(self, piece: Piece) -> Iterator[dict[str, Any]]:
        reject = self._reject if self.job.config.bad_rows == "reject" else None
        for document in table_documents(piece.table, self.job.columns, piece.rows(self.job.columns), reject):
            try:
                row = _row(document, self.job)
            except InputError as error:
                if reject is None:
                    raise
                reject(document.where, str(error))
                continue
            self.types.observe(document)
            yield row

    def _add(self, row: dict[str, Any], facts: Any) -> None:
        if self.in_part == self.job.config.shard_documents or self.part_bytes + row["bytes"] > self.most:
            self._end_part(facts)
        if self.part is None:
            name = f"part-{self.parts:05d}.parquet"
            self.part = pq.ParquetWriter(self.folder / name, PART, compression="zstd")
        self.rows.append({**row, "part": self.parts})
        self.documents += 1
        self.in_part += 1
        self.part_bytes += row["bytes"]
        self.waiting += row["bytes"]
        if self.waiting > _GROUP_BYTES or len(self.rows) == _GROUP_ROWS:
            self._flush(facts)

    def _flush(self, facts: Any) -> None:
        if self.rows:
            table = pa.Table.from_pylist(self.rows, _ROW)
            self.part.write_table(table.select(PART.names))
            facts.write_table(table.select(FACTS.names))
        self.rows, self.waiting = [], 0

    def _end_part(self, facts: Any) -> None:
        self._flush(facts)
        if self.part is not None:
            self.part.close()
            self.parts += 1
        self.part, self.in_part, self.part_bytes = None, 0, 0

    def _reject(self, where: str, why: str) -> None:
        self.rejected += 1
        self.rejects.write(json.dumps({"where": where, "why": why}, ensure_ascii=False) + "\n")


def _row(document: Document, job: Job) -> dict[str, Any]:
    column = job.config.validation_column
    return {
        "name": document.name,
        "source": document.source,
        "where": document.where,
        "text": document.text,
        "metadata": json.dumps(document.metadata, ensure_ascii=False),
        "text_hash": text_hash(document.text),
        "shared_id": job.identity.shared_id(document, job.config.id_key),
        "held_out": None if column is None else _held_out(document, column),
        "bytes": len(document.text.encode()),
    }


def _record(place: storage.Place, piece: Piece, key: bytes | None) -> dict[str, Any]:
    """What is noted of an input file; the task that has its beginning takes its hash."""
    try:
        state = storage.state(place)
        digest = storage.digest(place, key) if piece.start == 0 else None
        return {"bytes": storage.size(place), "state": state, "digest": digest}
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror or error})") from error


def _held_out(document: Document, column: str) -> bool:
    value = document.metadata[column]
    if not isinstance(value, bool):
        raise InputError(
            f"{document.where}: column {column!r} must be true (held out) or false (trained on), not {value!r}"
        )
    return value
