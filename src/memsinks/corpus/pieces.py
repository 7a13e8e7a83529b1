"""The input cut into tasks of reading: whole files, row groups of large Parquet files, ranges of datasets.

The cut depends on the input and the size of a task alone, never on how many processes there are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.corpus import storage
from memsinks.corpus.inputs import Table, is_a
from memsinks.corpus.readers import Columns, table_rows
from memsinks.corpus.rows import Row, read_dataset, read_parquet
from memsinks.errors import InputError

LEAST_BYTES, MOST_BYTES, TASKS = 2 << 20, 64 << 20, 64


@dataclass(frozen=True)
class Piece:
    """A table or a part of it.

    Attributes:
        table: what it is of.
        bytes: of the input, as stored.
        start, stop: row groups of a Parquet file or rows of a dataset; ``stop`` is None for all.
        first: rows of the table that lie before.
    """

    table: Table
    bytes: int
    start: int = 0
    stop: int | None = None
    first: int = 0

    def rows(self, columns: Columns) -> Iterator[Row]:
        """Its rows, numbered as in the table."""
        if self.stop is None:
            return table_rows(self.table, columns)
        if self.table.kind == "parquet":
            assert self.table.place is not None
            return read_parquet(self.table.place, columns.wanted(), range(self.start, self.stop), self.first)
        chosen = self.table.dataset.select(range(self.start, self.stop))
        return read_dataset(chosen, self.table.label, columns.wanted(), self.first)


def share(total: int) -> int:
    """Bytes of one task, of so many in all: a power of two, so that there are about :data:`TASKS` of them."""
    return min(MOST_BYTES, max(LEAST_BYTES, 1 << max(0, total // TASKS).bit_length()))


def cut(tables: Sequence[Table], task_bytes: int | None = None) -> list[list[Piece]]:
    """The tasks of reading, in the order of the input.

    Args:
        tables: the input.
        task_bytes: of input, as stored, that one task reads; a file that cannot be cut may have more. By default a
            :func:`share` of all.

    Raises:
        InputError: a file cannot be read.
    """
    if task_bytes is None:
        task_bytes = share(sum(piece.bytes for table in tables for piece in _pieces(table, MOST_BYTES)))
    tasks: list[list[Piece]] = []
    room = 0
    for piece in (piece for table in tables for piece in _pieces(table, task_bytes)):
        if not tasks or piece.bytes > room:
            tasks.append([])
            room = task_bytes
        tasks[-1].append(piece)
        room -= piece.bytes
    return tasks


def _pieces(table: Table, task_bytes: int) -> Iterator[Piece]:
    if table.kind == "dataset":
        yield from _of_dataset(table, task_bytes)
        return
    assert table.place is not None
    try:
        size = storage.size(table.place)
    except OSError as error:
        raise InputError(f"{table.place}: cannot be read ({error.strerror})") from error
    if table.kind == "parquet" and size > task_bytes:
        yield from _of_parquet(table, task_bytes)
    else:
        yield Piece(table, size)


def _of_dataset(table: Table, task_bytes: int) -> Iterator[Piece]:
    if not is_a(table.dataset, "Dataset"):
        yield Piece(table, task_bytes)  # of unknown length: a task of its own
        return
    rows, size = len(table.dataset), max(1, int(table.dataset.data.nbytes))
    step = max(1, math.ceil(rows * task_bytes / size))
    if rows <= step:
        yield Piece(table, size)
        return
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield Piece(table, size * (stop - start) // rows, start, stop, start)


def _of_parquet(table: Table, task_bytes: int) -> Iterator[Piece]:
    assert table.place is not None
    try:
        with storage.open_bytes(table.place) as raw, pq.ParquetFile(raw) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{table.place}: cannot be read as Parquet ({error}); is the file complete?") from error
    piece = Piece(table, 0, 0, 0, 0)
    for number, group in enumerate(groups):
        size = sum(group.column(c).total_compressed_size for c in range(group.num_columns))
        if piece.stop != piece.start and piece.bytes + size > task_bytes:
            yield piece
            piece = Piece(table, 0, number, number, piece.first + sum(g.num_rows for g in groups[piece.start : number]))
        piece = replace(piece, bytes=piece.bytes + size, stop=number + 1)
    yield piece
