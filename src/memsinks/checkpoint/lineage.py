"""Where a checkpoint with sinks comes from: the text of each training, and every removal.

``lineage.json`` names each training by the hashes of its corpus, plan and settings, and each removal by its plan and
the sinks before and after. ``trained.parquet`` lists the sequence IDs that trained with their sinks, and
``removed.parquet`` those that were removed, with the content IDs of their documents, so that the same text is known
again under other IDs.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.errors import CheckpointError

LINEAGE, TRAINED, REMOVED = "lineage.json", "trained.parquet", "removed.parquet"
UNKNOWN = 0
"""In place of a content ID."""
FORMAT, FORMAT_VERSION = "memsinks-lineage", 1

_TRAINED = pa.schema({"stage": pa.int32(), "sequence_id": pa.uint64(), "exposures": pa.int64()})
_REMOVED = pa.schema({"sequence_id": pa.uint64(), "content_id": pa.uint64()})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training.

    Attributes:
        corpus: SHA-256 of its manifest.
        ids: what documents shared to share a sequence ID; None as the corpus was prepared.
        plan: SHA-256 of the exposures.
        governed: SHA-256 of which documents trained with sinks.
        config: SHA-256 of the run's settings.
        steps: of the optimiser.
        tokens: predicted.
    """

    corpus: str
    ids: str | None
    plan: str
    governed: str
    config: str
    steps: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One removal.

    Attributes:
        id: its name, as in the ledger.
        time: UTC, ISO 8601.
        everything: all sinks went.
        ids: sequence IDs removed.
        documents: of the corpus, under these.
        before, after: SHA-256 of ``sinks.safetensors``.
        plan: SHA-256 of the plan that was carried out.
        ledger: number and hash of the ledger's last entry then.
    """

    id: str
    time: str
    everything: bool
    ids: int
    documents: int
    before: str
    after: str
    plan: str
    ledger: tuple[int, str] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Lineage:
    """All of it.

    Attributes:
        stages: trainings, the first one first.
        removals: in the order in which they were made.
        trained: columns ``stage``, ``sequence_id``, ``exposures``.
        removed: columns ``sequence_id``, ``content_id``, sorted; the same for the same removals in any order.
    """

    stages: tuple[Stage, ...] = ()
    removals: tuple[Removal, ...] = ()
    trained: pa.Table = field(default_factory=_TRAINED.empty_table)
    removed: pa.Table = field(default_factory=_REMOVED.empty_table)

    def trained_ids(self) -> np.ndarray:
        """Sequence IDs that trained with sinks and were not removed: ``uint64``, sorted."""
        return np.setdiff1d(self.trained["sequence_id"].to_numpy(), self.removed["sequence_id"].to_numpy())

    def with_stage(self, stage: Stage, ids: np.ndarray, exposures: np.ndarray) -> Self:
        """The lineage after a training.

        Args:
            stage: the training.
            ids: ``uint64 [n]``, the sequence IDs that trained with sinks, in any order and as often as they like.
            exposures: ``int64 [n]``, of each; those of equal IDs are added up.
        """
        distinct, place = np.unique(ids, return_inverse=True)
        totals = np.bincount(place, weights=exposures, minlength=len(distinct)).astype(np.int64)
        columns = [np.full(len(distinct), len(self.stages), dtype=np.int32), distinct, totals]
        new = pa.table(columns, schema=_TRAINED)
        return replace(self, stages=(*self.stages, stage), trained=pa.concat_tables([self.trained, new]))

    def with_removal(self, removal: Removal, ids: np.ndarray, content_ids: np.ndarray) -> Self:
        """The lineage after a removal.

        Args:
            removal: the removal.
            ids: ``uint64 [n]``, the sequence ID of each document that went.
            content_ids: ``uint64 [n]``, its content ID, or :data:`UNKNOWN`.
        """
        old = [self.removed[name].to_numpy() for name in _REMOVED.names]
        pairs = np.unique(
            np.stack([np.concatenate(both) for both in zip(old, (ids, content_ids), strict=True)]), axis=1
        )
        return replace(self, removals=(*self.removals, removal), removed=pa.table(list(pairs), schema=_REMOVED))

    def refuses(self, sequence_ids: np.ndarray, content_ids: np.ndarray) -> np.ndarray:
        """Which documents were removed and must not be trained again: ``bool [n]`` for ``uint64 [n]``."""
        contents = self.removed["content_id"].to_numpy()
        same_text = np.isin(content_ids, contents[contents != UNKNOWN])
        return np.isin(sequence_ids, self.removed["sequence_id"].to_numpy()) | same_text

    def write(self, folder: Path) -> None:
        """Write the files; ``removed.parquet`` only if something was removed."""
        pq.write_table(self.trained, folder / TRAINED)
        if len(self.removed):
            pq.write_table(self.removed, folder / REMOVED)
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "stages": [asdict(stage) for stage in self.stages],
            "removals": [asdict(removal) for removal in self.removals],
        }
        (folder / LINEAGE).write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Lineage | None":
        """Read what :meth:`write` wrote; None if the checkpoint has no lineage.

        Raises:
            CheckpointError: a file is missing or unreadable, or of a newer format.
        """
        file = folder / LINEAGE
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text())
            if content["format_version"] != FORMAT_VERSION:
                raise CheckpointError(
                    f"{file} has format version {content['format_version']}; this version of memsinks reads "
                    f"{FORMAT_VERSION}"
                )
            removals = tuple(Removal(**{**r, "ledger": _anchor(r["ledger"])}) for r in content["removals"])
            return cls(
                stages=tuple(Stage(**stage) for stage in content["stages"]),
                removals=removals,
                trained=_table(folder / TRAINED, _TRAINED),
                removed=_table(folder / REMOVED, _REMOVED) if removals else _REMOVED.empty_table(),
            )
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise CheckpointError(f"{file}: the lineage cannot be read ({error}); restore it from a copy") from error


def _anchor(pair: Sequence[Any] | None) -> tuple[int, str] | None:
    return None if pair is None else (int(pair[0]), str(pair[1]))


def _table(file: Path, schema: pa.Schema) -> pa.Table:
    table = pq.read_table(file)
    if table.schema.names != schema.names:
        raise ValueError(f"{file.name} has columns {', '.join(table.schema.names)}")
    return table.cast(schema)
