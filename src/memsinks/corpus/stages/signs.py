"""The signs of all documents, mapped from the files of stage 2, with one document for each distinct text."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from memsinks.corpus.grouping.similar import BANDS
from memsinks.corpus.stages import sign
from memsinks.corpus.stages.job import Job

_PORTION = 1 << 24
"""Fingerprints in memory at a time."""


class Signs:
    """Words, band keys and fingerprints of texts.

    Args:
        job: whose stage 2 is finished.
        parts: how many parts there are.
        documents: ``int64 [texts]``, the document that stands for each text.
    """

    def __init__(self, job: Job, parts: int, documents: np.ndarray) -> None:
        files = [job.work.folder(sign.STAGE, part) / "signs.arrow" for part in range(parts)]
        tables = [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]
        self._table = pa.concat_tables(tables) if tables else sign.SCHEMA.empty_table()
        self._documents = documents
        self._words = _Lists(self._table["words"])

    def words(self, text: int) -> np.ndarray:
        """The word hashes of a text."""
        return self._words[int(self._documents[text])]

    def bands(self) -> Iterator[np.ndarray]:
        """Keys of one band after the other, ``uint64 [texts]``."""
        for band in range(BANDS):
            yield self._table[f"band_{band}"].to_numpy()[self._documents]

    def prints(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Hashes, texts and positions of fingerprints; each portion has all of some of the hashes."""
        text = np.full(self._table.num_rows, -1, np.int64)
        text[self._documents] = np.arange(len(self._documents))
        hashes, positions = _Lists(self._table["hashes"]), _Lists(self._table["positions"])
        portions = max(1, -(-int(hashes.lengths.sum()) // _PORTION))
        for portion in range(portions):
            found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
            for first, last, own, own_positions in zip(*hashes.chunks(), positions.values, strict=True):
                texts = np.repeat(text[first:last], hashes.lengths[first:last])
                chosen = (texts >= 0) & (own % np.uint64(portions) == portion)
                found.append((own[chosen], texts[chosen], own_positions[chosen]))
            if found:
                yield tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[misc]


class _Lists:
    """A mapped column of lists, indexed without a copy."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.values = [chunk.flatten().to_numpy() for chunk in column.chunks]
        self._offsets = [chunk.offsets.to_numpy() - chunk.offsets[0].as_py() for chunk in column.chunks]
        self._first = np.cumsum([0, *(len(offsets) - 1 for offsets in self._offsets)])
        self.lengths = np.concatenate([np.empty(0, np.int64), *map(np.diff, self._offsets)]).astype(np.int64)

    def __getitem__(self, row: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._first, row, side="right")) - 1
        begin, end = self._offsets[chunk][row - self._first[chunk] :][:2]
        return self.values[chunk][begin:end]

    def chunks(self) -> tuple[list[int], list[int], list[np.ndarray]]:
        """First and one past the last row of each chunk, and its values."""
        return self._first[:-1].tolist(), self._first[1:].tolist(), self.values
