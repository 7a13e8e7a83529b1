"""Stage 2: the words of each document, as hashes, and what finds documents like it. A task is one part.

It writes ``words.bin``, the hashes of all words one after the other, and ``signs.arrow`` (:data:`SCHEMA`).
"""

import numpy as np
import pyarrow as pa

from memsinks.corpus.grouping.passages import fingerprints
from memsinks.corpus.grouping.similar import BANDS, band_keys, shingles
from memsinks.corpus.grouping.words import word_hashes
from memsinks.corpus.stages.job import Job
from memsinks.corpus.stages.parts import part_texts

STAGE = "sign"
SCHEMA = pa.schema(
    {
        "words": pa.int64(),
        **{f"band_{i}": pa.uint64() for i in range(BANDS)},
        "hashes": pa.large_list(pa.uint64()),
        "positions": pa.large_list(pa.uint32()),
    }
)
"""Of each document: how many words it has, its band keys, and its fingerprints."""
_BATCH = 256


def run(job: Job, task: int) -> None:
    """Sign the documents of one part, in their order."""
    assert job.config.groups is not None
    length = job.config.groups.passage_words
    with (
        job.work.task(STAGE, task) as folder,
        (folder / "words.bin").open("wb") as all_words,
        pa.ipc.new_file(str(folder / "signs.arrow"), SCHEMA) as writer,
    ):
        for texts in part_texts(job, task, _BATCH):
            words = [word_hashes(text) for text in texts]
            for own in words:
                own.astype("<u8").tofile(all_words)
            keys = band_keys([shingles(own) for own in words])
            found = [fingerprints(own, length) for own in words]
            columns = [
                pa.array([len(own) for own in words], pa.int64()),
                *(pa.array(keys[:, band]) for band in range(BANDS)),
                _lists([hashes for hashes, _ in found], pa.uint64()),
                _lists([positions for _, positions in found], pa.uint32()),
            ]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))


def _lists(values: list[np.ndarray], kind: pa.DataType) -> pa.Array:
    ends = np.cumsum([0, *map(len, values)]).astype(np.int64)
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(values), kind))
