"""Rows of a table, one at a time, from each supported file format.

Every reader yields ``(where, number, row)``: a place for error messages, the row's number counted from one, and a
mapping from column names to Python values. No reader holds more than a batch of rows.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from memsinks.errors import InputError

Row = tuple[str, int, Mapping[str, Any]]

_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 256


def read_jsonl(path: Path) -> Iterator[Row]:
    """Rows of a JSON-lines file, plain or compressed (``.gz``, ``.zst``); blank lines are skipped.

    Raises:
        InputError: the file cannot be read or decompressed, or a line is not UTF-8, not JSON or not an object.
    """
    for number, raw in enumerate(_lines(_decompressed(path)), start=1):
        where = f"{path}:{number}"
        text = _decode(raw, where)
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: invalid JSON ({error}); a JSON-lines file has one object a line") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected a JSON object with named columns, not {type(row).__name__}")
        yield where, number, row


def read_parquet(path: Path, wanted: tuple[str, ...]) -> Iterator[Row]:
    """Rows of a Parquet file, with those of the columns ``wanted`` that it has.

    Raises:
        InputError: the file is not Parquet, is damaged, or lacks a wanted column.
    """
    try:
        with pq.ParquetFile(path) as file:
            require_columns(file.schema_arrow.names, wanted, str(path))
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(wanted)):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}); is the file complete?") from error


def read_dataset(dataset: Any, label: str, wanted: tuple[str, ...]) -> Iterator[Row]:
    """Rows of a ``datasets.Dataset`` or ``IterableDataset``, with the columns ``wanted``.

    Raises:
        InputError: the dataset lacks a wanted column.
    """
    # Other formats would yield tensors or arrays in place of Python values; a column is dropped before it is decoded.
    dataset = dataset.with_format(None)
    if dataset.column_names is not None:
        require_columns(dataset.column_names, wanted, label)
        dataset = dataset.select_columns(list(wanted))
    for number, row in enumerate(dataset, start=1):
        yield f"{label}, row {number}", number, row


def read_text(path: Path) -> str:
    """The whole of a UTF-8 text file, without a byte-order mark."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return _decode(raw, str(path))


def require_columns(present: list[str], wanted: tuple[str, ...], where: str) -> None:
    """Raise :class:`InputError` unless every wanted column is present."""
    for column in wanted:
        if column not in present:
            raise InputError(
                f"{where}: no column {column!r}; the columns are {', '.join(map(repr, present)) or 'none'}. "
                "Name the right one in the column settings"
            )


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8 at byte {error.start}; convert the file to UTF-8") from error


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    pending: list[bytes] = []
    for chunk in chunks:
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            yield b"".join([*pending, line])
            pending.clear()
        pending.append(rest)
    if any(pending):
        yield b"".join(pending)


def _decompressed(path: Path) -> Iterator[bytes]:
    try:
        match path.suffix.lower():
            case ".gz":
                with gzip.open(path, "rb") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        yield chunk
            case ".zst":
                yield from _zstd(path)
            case _:
                with path.open("rb") as plain:
                    while chunk := plain.read(_CHUNK_BYTES):
                        yield chunk
    except (EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged or truncated compressed file ({error}); copy or make it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _zstd(path: Path) -> Iterator[bytes]:
    # ZstdDecompressor.stream_reader ends quietly on a truncated file, so the end of each frame is checked here.
    frame = zstandard.ZstdDecompressor().decompressobj()
    complete = False
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            while chunk:
                if complete:
                    frame, complete = zstandard.ZstdDecompressor().decompressobj(), False
                yield frame.decompress(chunk)
                complete = frame.eof
                chunk = frame.unused_data if complete else b""
    if not complete:
        raise EOFError("the last frame has no end")
