"""Arrow files of tokenised documents."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from memsinks.errors import InputError

_BASE = {
    "document": pa.string(),
    "source": pa.string(),
    "split": pa.string(),
    "sequence_id": pa.uint64(),
    "content_id": pa.uint64(),
    "group_id": pa.uint64(),
    "source_id": pa.uint64(),
    "tokens": pa.list_(pa.uint32()),
}
RESERVED = frozenset(_BASE)
"""Columns of every shard; metadata may not use these names."""

_BATCH_DOCUMENTS = 512
_BATCH_TOKENS = 1 << 22


def shard_schema(metadata: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of a shard.

    Raises:
        InputError: a metadata column has a reserved name.
    """
    if taken := sorted(RESERVED & metadata.keys()):
        raise InputError(
            f"metadata column {taken[0]!r} has the name of a column that every corpus has; rename it in the input"
        )
    return pa.schema({**_BASE, **metadata})


class ShardWriter:
    """Writes ``shard-00000.arrow``, ``shard-00001.arrow``, … with a fixed number of documents in each but the last."""

    def __init__(self, folder: Path, schema: pa.Schema, shard_documents: int) -> None:
        self.names: list[str] = []
        self.metadata = [name for name in schema.names if name not in RESERVED]
        self._folder = folder
        self._schema = schema
        self._limit = shard_documents
        self._rows: list[Mapping[str, Any]] = []
        self._tokens = 0
        self._in_shard = 0
        self._file: Any = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_shard()
        elif self._file is not None:
            # The error that ended the block is the one to report.
            with contextlib.suppress(OSError):
                self._file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a document: one value a column, ``tokens`` as a ``uint32`` array."""
        self._rows.append(row)
        self._tokens += len(row["tokens"])
        full = self._in_shard + len(self._rows) == self._limit
        if full or len(self._rows) == _BATCH_DOCUMENTS or self._tokens >= _BATCH_TOKENS:
            self._flush()
        if full:
            self._end_shard()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            self.names.append(f"shard-{len(self.names):05d}.arrow")
            self._file = pa.ipc.new_file(str(self._folder / self.names[-1]), self._schema)
        self._file.write_batch(_record_batch(self._rows, self._schema))
        self._in_shard += len(self._rows)
        self._rows, self._tokens = [], 0

    def _end_shard(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
        self._file, self._in_shard = None, 0


def _record_batch(rows: list[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        if field.name == "tokens":
            ends = np.cumsum([0, *map(len, values)]).astype(np.int32)
            columns.append(pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values)), type=field.type))
        else:
            columns.append(pa.array(values, type=field.type))
    return pa.record_batch(columns, schema=schema)
