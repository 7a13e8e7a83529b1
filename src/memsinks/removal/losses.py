"""What surviving sources lose by a removal."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from memsinks.removal.rows import Cut
from memsinks.removal.subject import Subject

_MOST_SOURCES = 20


@dataclass(frozen=True, kw_only=True)
class SourceLoss:
    """What a surviving source loses.

    Attributes:
        source: None for documents without one.
        ids: that stay, of those that were looked at.
        mean, most: fraction of its rows that an ID of it loses.
    """

    source: str | None
    ids: int
    mean: float
    most: float


def source_losses(subject: Subject, rows: Cut) -> tuple[SourceLoss, ...]:
    """Those that lose most, first; none where nobody loses anything."""
    lost = rows.collateral
    if not lost.lost.any():
        return ()
    by_id = dict(zip(lost.ids.tolist(), lost.lost.tolist(), strict=True))
    own: dict[str | None, dict[int, float]] = defaultdict(dict)
    for i in np.flatnonzero(subject.with_sinks).tolist():
        sequence_id = int(subject.corpus.sequence_ids[i])
        if sequence_id in by_id:
            own[subject.corpus.sources[i]][sequence_id] = by_id[sequence_id]
    found = [
        SourceLoss(source=s, ids=len(v), mean=float(np.mean(list(v.values()))), most=max(v.values()))
        for s, v in own.items()
    ]
    return tuple(sorted(found, key=lambda loss: (-loss.mean, loss.source or ""))[:_MOST_SOURCES])
