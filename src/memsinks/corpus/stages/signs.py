"""The signs of all documents, read from the files of stage 2 as needed, with one document for each distinct text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memsinks.corpus.grouping.similar import BANDS
from memsinks.corpus.stages import sign
from memsinks.corpus.stages.job import Job

_PORTION = 1 << 22
"""Fingerprints in memory at a time."""


class Signs:
    """Words, band keys and fingerprints of texts; in memory are about 16 bytes a document, and what is asked for.

    Args:
        job: whose stage 2 is finished.
        parts: how many parts there are.
        documents: ``int64 [texts]``, the document that stands for each text.
    """

    def __init__(self, job: Job, parts: int, documents: np.ndarray) -> None:
        self._folders = [job.work.folder(sign.STAGE, part) for part in range(parts)]
        self._documents = documents
        counts = [_column(folder, "words").to_numpy() for folder in self._folders]
        self._first = np.cumsum([0, *map(len, counts)])
        self._starts = [np.cumsum([0, *own]) for own in counts]

    def words(self, text: int) -> np.ndarray:
        """``uint64 [words]``: the word hashes of a text."""
        document = int(self._documents[text])
        part = int(np.searchsorted(self._first, document, side="right")) - 1
        start, stop = self._starts[part][document - self._first[part] :][:2].tolist()
        # Read, not mapped: mapped pages would count as this process's memory.
        with (self._folders[part] / "words.bin").open("rb") as file:
            file.seek(8 * start)
            return np.frombuffer(file.read(8 * (stop - start)), "<u8").astype(np.uint64, copy=False)

    def bands(self) -> Iterator[np.ndarray]:
        """Keys of one band after the other, ``uint64 [texts]``."""
        for band in range(BANDS):
            keys = [_column(folder, f"band_{band}").to_numpy() for folder in self._folders]
            yield np.concatenate([np.empty(0, np.uint64), *keys])[self._documents]

    def prints(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Hashes, texts and positions of fingerprints that occur more than once; each portion has all of some hashes.

        Most occur once, so hashes alone are in memory until these are left out.
        """
        text = np.full(int(self._first[-1]), -1, np.int64)
        text[self._documents] = np.arange(len(self._documents))
        parts = range(len(self._folders))
        total = sum(len(_column(folder, "hashes").flatten()) for folder in self._folders)
        portions = max(1, -(-total // _PORTION))
        for portion in range(portions):
            repeated = _repeated([self._hashes(part, portion, portions, text) for part in parts])
            found = [self._portion(part, repeated, text) for part in parts] if len(repeated) else []
            if found:
                hashes, texts, positions = (np.concatenate(column) for column in zip(*found, strict=True))
                del found
                yield hashes, texts, positions

    def _hashes(self, part: int, portion: int, portions: int, text: np.ndarray) -> np.ndarray:
        """Those of a portion, of the documents of a part that stand for a text."""
        lists = _column(self._folders[part], "hashes")
        hashes = lists.flatten().to_numpy()
        return hashes[(self._texts(part, lists, text) >= 0) & (hashes % np.uint64(portions) == portion)]

    def _portion(self, part: int, repeated: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lists = _column(self._folders[part], "hashes")
        hashes, texts = lists.flatten().to_numpy(), self._texts(part, lists, text)
        place = np.searchsorted(repeated, hashes)
        place[place == len(repeated)] = 0
        chosen = (repeated[place] == hashes) & (texts >= 0)
        positions = _column(self._folders[part], "positions").flatten().to_numpy()
        return hashes[chosen], texts[chosen], positions[chosen]

    def _texts(self, part: int, lists: pa.Array, text: np.ndarray) -> np.ndarray:
        """The text of each fingerprint of a part, or -1."""
        own = text[self._first[part] : self._first[part + 1]]
        return np.repeat(own, lists.value_lengths().to_numpy())


def _repeated(parts: list[np.ndarray]) -> np.ndarray:
    """``uint64``, sorted: the hashes that occur more than once."""
    hashes = np.concatenate([np.empty(0, np.uint64), *parts])
    parts.clear()
    hashes.sort()
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def _column(folder: Path, name: str) -> Any:
    """One column of a part; the others are not read."""
    options = pa.ipc.IpcReadOptions(included_fields=[sign.SCHEMA.get_field_index(name)])
    with pa.OSFile(str(folder / "signs.arrow")) as source:
        chunks = pa.ipc.open_file(source, options=options).read_all()[name].chunks
    return pa.concat_arrays(chunks) if chunks else pa.array([], sign.SCHEMA.field(name).type)
