"""Exposures counted while training: how often the model passed over text with each ID."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch.distributed as dist
from torch import Tensor

from memsinks.errors import CheckpointError
from memsinks.ids import from_tensor

EXPOSURES = "exposures.parquet"


class ExposureCounter:
    """Counts by sequence ID, and the tokens passed over, stored with the checkpoint as ``exposures.parquet``."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.tokens = 0

    def update(self, ids: Tensor | Iterable[int], tokens: int = 0) -> None:
        """Count one exposure for each entry, and tokens; tensors hold ``int64`` bit patterns."""
        self.counts.update(from_tensor(ids).tolist() if isinstance(ids, Tensor) else ids)
        self.tokens += tokens

    def summed(self) -> "ExposureCounter":
        """The counts of all ranks together; all ranks take part."""
        everyone: list[tuple[Counter[int], int]] = [(Counter(), 0)] * dist.get_world_size()
        dist.all_gather_object(everyone, (self.counts, self.tokens))
        total = ExposureCounter()
        for counts, tokens in everyone:
            total.counts.update(counts)
            total.tokens += tokens
        return total

    def save(self, directory: Path) -> None:
        """Write ``exposures.parquet`` with columns ``sequence_id`` (uint64) and ``exposures`` (int64)."""
        ids = sorted(self.counts)
        table = pa.table(
            {
                "sequence_id": pa.array(np.array(ids, dtype=np.uint64)),
                "exposures": pa.array([self.counts[i] for i in ids], pa.int64()),
            },
            metadata={"format": "memsinks-exposures", "format_version": "1", "tokens": str(self.tokens)},
        )
        temporary = directory / f".{EXPOSURES}.tmp"
        pq.write_table(table, temporary)
        temporary.replace(directory / EXPOSURES)

    def load(self, directory: Path) -> None:
        """Replace the counts by those that :meth:`save` wrote.

        Raises:
            CheckpointError: the file is missing or unreadable.
        """
        file = directory / EXPOSURES
        try:
            table = pq.read_table(file)
            self.counts = Counter(
                dict(zip(table["sequence_id"].to_pylist(), table["exposures"].to_pylist(), strict=True))
            )
            self.tokens = int(table.schema.metadata[b"tokens"])
        except (OSError, pa.ArrowException, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{file} cannot be read ({error}); without it exposures cannot be counted on, resume from another "
                "checkpoint"
            ) from error
