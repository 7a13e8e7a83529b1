"""Rows of a table, one at a time, from each supported file format.

Every reader yields ``(where, number, row)``: a place for error messages, the row's number counted from one, and a
mapping from column names to Python values, or the error where one row cannot be used and the next can. No reader holds
more than a batch of rows.
"""

import codecs
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from memsinks.corpus.storage import Place, open_bytes
from memsinks.errors import InputError

Row = tuple[str, int, Mapping[str, Any] | InputError]

_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 256
_UNDECIDED = re.compile(rb"(\xef\xbb\xbf)?\s*(\[\s*)?")
_ARRAY = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*\{")
_BETWEEN = re.compile(r"[\s,\[]*")
"""What may stand before an element; misplaced commas are let through."""


def read_json(place: Place) -> Iterator[Row]:
    """Rows of a file of JSON lines, or of one JSON array of objects; plain or compressed (``.gz``, ``.zst``).

    Blank lines are skipped. A line that is not UTF-8, not JSON or not an object is an error in its place.

    Raises:
        InputError: the file cannot be read or decompressed, or an array is damaged.
    """
    chunks = _decompressed(place)
    head = b""
    while _UNDECIDED.fullmatch(head) and (chunk := next(chunks, b"")):
        head += chunk
    chunks = itertools.chain([head], chunks)
    if _ARRAY.match(head):
        yield from _array(chunks, str(place))
        return
    for number, raw in enumerate(_lines(chunks), start=1):
        where = f"{place}:{number}"
        try:
            text = _decode(raw, where)
        except InputError as error:
            yield where, number, error
            continue
        if text.strip():
            yield where, number, _object(text, where)


def read_parquet(place: Place, wanted: tuple[str, ...], groups: range | None = None, first: int = 0) -> Iterator[Row]:
    """Rows of a Parquet file, with those of the columns ``wanted`` that it has.

    Args:
        place: of the file.
        wanted: names of columns.
        groups: row groups to read; None for all.
        first: rows before them, for their numbers.

    Raises:
        InputError: the file is not Parquet, is damaged, or lacks a wanted column.
    """
    try:
        with open_bytes(place) as raw, pq.ParquetFile(raw) as file:
            require_columns(file.schema_arrow.names, wanted, str(place))
            options: dict[str, Any] = {} if groups is None else {"row_groups": list(groups)}
            batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=list(wanted), **options)
            yield from _rows(batches, str(place), first)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: cannot be read as Parquet ({error}); is the file complete?") from error


def read_arrow(place: Place, wanted: tuple[str, ...]) -> Iterator[Row]:
    """Rows of an Arrow IPC file or stream, with the columns ``wanted``.

    Raises:
        InputError: the file is not Arrow, is damaged, or lacks a wanted column.
    """
    try:
        with open_bytes(place) as raw:
            is_file = raw.read(6) == b"ARROW1"
            raw.seek(0)
            reader = pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
            require_columns(reader.schema.names, wanted, str(place))
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
            small = (b.slice(i, _BATCH_ROWS) for b in batches for i in range(0, b.num_rows, _BATCH_ROWS))
            yield from _rows((batch.select(list(wanted)) for batch in small), str(place), 0)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: cannot be read as Arrow ({error}); is the file complete?") from error


def read_dataset(dataset: Any, label: str, wanted: tuple[str, ...], first: int = 0) -> Iterator[Row]:
    """Rows of a ``datasets.Dataset`` or ``IterableDataset``, with the columns ``wanted``; ``first`` rows lie before.

    Raises:
        InputError: the dataset lacks a wanted column.
    """
    # Other formats would yield tensors or arrays in place of Python values; a column is dropped before it is decoded.
    dataset = dataset.with_format(None)
    if dataset.column_names is not None:
        require_columns(dataset.column_names, wanted, label)
        dataset = dataset.select_columns(list(wanted))
    for number, row in enumerate(dataset, start=first + 1):
        yield f"{label}, row {number}", number, row


def read_text(place: Place) -> str:
    """The whole of a UTF-8 text file, without a byte-order mark."""
    try:
        with open_bytes(place) as file:
            raw = file.read()
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror})") from error
    return _decode(raw, str(place))


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


def _rows(batches: Any, label: str, first: int) -> Iterator[Row]:
    number = first
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield f"{label}, row {number}", number, row


def _object(text: str, where: str) -> Mapping[str, Any] | InputError:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return InputError(f"{where}: invalid JSON ({error}); a JSON-lines file has one object a line")
    if not isinstance(row, dict):
        return InputError(f"{where}: expected a JSON object with named columns, not {type(row).__name__}")
    return row


def _array(chunks: Iterator[bytes], label: str) -> Iterator[Row]:
    """The objects of one JSON array, each parsed when all of it has been read."""
    decoder, text, number = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8-sig")(), 0
    pending, ended = "", False

    def damaged(why: str) -> InputError:
        return InputError(f"{label}, after element {number}: invalid JSON array ({why}); is the file complete?")

    try:
        for chunk in itertools.chain(chunks, [b""]):
            pending += text.decode(chunk, final=not chunk)
            position = 0
            while match := _BETWEEN.match(pending, position):
                if match.end() == len(pending):
                    break
                if pending[match.end()] == "]":
                    ended, position = True, match.end() + 1
                    break
                try:
                    row, position = decoder.raw_decode(pending, match.end())
                except ValueError as error:
                    if chunk:  # the rest of this element is still to come
                        break
                    raise damaged(str(error)) from error
                number += 1
                where = f"{label}, element {number}"
                if not isinstance(row, dict):
                    row = InputError(f"{where}: expected a JSON object with named columns, not {type(row).__name__}")
                yield where, number, row
            pending = pending[position:]
    except UnicodeDecodeError as error:
        raise damaged(f"not valid UTF-8: {error.reason}") from error
    if not ended:
        raise damaged("no closing bracket")


def _decompressed(place: Place) -> Iterator[bytes]:
    try:
        with open_bytes(place) as file:
            match str(place).lower().rpartition(".")[2]:
                case "gz":
                    chunks = _chunks(gzip.GzipFile(fileobj=file))
                case "zst":
                    chunks = _zstd(file)
                case _:
                    chunks = _chunks(file)
            yield from chunks
    except (EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise InputError(f"{place}: damaged or truncated compressed file ({error}); copy or make it again") from error
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror or error})") from error


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _zstd(file: Any) -> Iterator[bytes]:
    # ZstdDecompressor.stream_reader ends quietly on a truncated file, so the end of each frame is checked here.
    frame = zstandard.ZstdDecompressor().decompressobj()
    complete = False
    for chunk in _chunks(file):
        while chunk:
            if complete:
                frame, complete = zstandard.ZstdDecompressor().decompressobj(), False
            yield frame.decompress(chunk)
            complete = frame.eof
            chunk = frame.unused_data if complete else b""
    if not complete:
        raise EOFError("the last frame has no end")
