"""The parts that the first stage wrote, in the order of the input, and what was noted of their documents."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.corpus.stages import read
from memsinks.corpus.stages.job import Job

_LIST = "parts.json"


def reports(job: Job, tasks: Iterable[int] | None = None) -> list[dict[str, Any]]:
    """What all reading tasks, or these, reported."""
    folders = (job.work.folder(read.STAGE, t) for t in (range(len(job.reading)) if tasks is None else tasks))
    return [json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in folders]


def list_parts(job: Job) -> None:
    """Note which parts there are, once all tasks have read, so that later tasks need not ask every one of them."""
    found = [(task, part) for task, report in enumerate(reports(job)) for part in range(report["parts"])]
    file = job.work.path / _LIST
    temporary = file.with_suffix(".partial")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(file)


def parts(job: Job) -> list[Path]:
    """The files of all parts, as :func:`list_parts` noted them."""
    found = json.loads((job.work.path / _LIST).read_text(encoding="utf-8"))
    return [job.work.folder(read.STAGE, task) / f"part-{part:05d}.parquet" for task, part in found]


def part_texts(job: Job, part: int, rows: int) -> Iterator[list[str]]:
    """The texts of a part, so many at a time."""
    for batch in part_batches(job, part, rows, ["text"]):
        yield batch["text"].to_pylist()


def part_batches(job: Job, part: int, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a part, so many at a time."""
    with pq.ParquetFile(parts(job)[part]) as file:
        # A row group at a time, for larger batches would run on over its end and hold the whole part; and sliced, since
        # small batches take longer to read than what they hold.
        for number in range(file.num_row_groups):
            (group,) = file.read_row_group(number, columns).combine_chunks().to_batches()
            yield from (group.slice(start, rows) for start in range(0, len(group), rows))


@dataclass(frozen=True)
class Facts:
    """What is known of all documents before any token, in the order of the input.

    Attributes:
        table: the columns of :data:`memsinks.corpus.stages.read.FACTS`.
        part: ``int64 [documents]``, the part that holds each.
        hashes: ``[documents]`` fixed-width bytes, hashes of the normalised texts.
    """

    table: pa.Table
    part: np.ndarray
    hashes: np.ndarray

    def __len__(self) -> int:
        return self.table.num_rows

    def of_part(self, part: int) -> slice:
        """The documents of a part."""
        return slice(*np.searchsorted(self.part, [part, part + 1]).tolist())


def facts(job: Job) -> Facts:
    """Read the facts of all documents."""
    tables, numbers, before = [], [np.empty(0, np.int64)], 0
    for task, report in enumerate(reports(job)):
        table = pq.read_table(job.work.folder(read.STAGE, task) / "facts.parquet")
        tables.append(table)
        numbers.append(table["part"].to_numpy().astype(np.int64) + before)
        before += report["parts"]
    table = pa.concat_tables(tables)
    hashes = _fixed(table["text_hash"])
    return Facts(table, np.concatenate(numbers), hashes)


def _fixed(column: pa.ChunkedArray) -> np.ndarray:
    """16-byte values as numpy's ``V16``: its ``S16`` would cut trailing zero bytes off."""
    chunks = [np.frombuffer(c.buffers()[1], "V16")[c.offset : c.offset + len(c)] for c in column.chunks if len(c)]
    return np.concatenate(chunks) if chunks else np.empty(0, "V16")
