"""What was removed from a pool: IDs that never have sinks again, and rows that are not in the tensors any more.

An ID chooses *virtual* rows, whose numbers never change. A removed row leaves the tensors and its number becomes a
tombstone; the rows after it move up. So a layer's tensors hold its virtual rows in order, less the tombstones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

PREFIX = "removed."
"""Of these tensors among those of the allocation table."""


@dataclass(frozen=True, eq=False)
class Tombstones:
    """Removed IDs and rows. The same removals give the same tombstones in whatever order they were made.

    Attributes:
        ids: ``int64 [n]``, sorted; the bit patterns of the IDs that were removed.
        kept: ``bool [n]``; true where rows that other IDs chose as well stayed when the ID was removed.
        rows: for each layer with sinks, ``int64 [runs, 2]``: first row and length of each run of removed virtual rows,
            in order, with a row between any two.
    """

    ids: Tensor
    kept: Tensor
    rows: tuple[Tensor, ...]

    def removed_rows(self, place: int) -> int:
        """How many rows a layer lost."""
        return int(self.rows[place][:, 1].sum())

    def find(self, place: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Where virtual rows of a layer are.

        Args:
            place: number of the layer among those with sinks.
            rows: ``int64``, of any shape.

        Returns:
            Their positions in the layer's tensors, arbitrary for removed ones; and ``bool``, whether they are there.
        """
        first, length = self.rows[place].t().contiguous()
        if not len(first):
            return rows, torch.ones_like(rows, dtype=torch.bool)
        run = torch.searchsorted(first, rows, right=True) - 1
        nearest = run.clamp(min=0)
        gone = torch.where(run >= 0, length.cumsum(0)[nearest], 0)
        inside = (run >= 0) & (rows < first[nearest] + length[nearest])
        return rows - gone, ~inside

    def present(self, place: int, pool: int) -> Tensor:
        """The virtual rows of a layer that its tensors hold, ``int64``, in order."""
        rows = torch.arange(pool, device=self.ids.device)
        return rows[self.find(place, rows)[1]]

    def on(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.ids.to(device), self.kept.to(device), tuple(rows.to(device) for rows in self.rows))

    def facts(self) -> dict[str, Any]:
        """Counts, for ``sinks.json``."""
        return {
            "ids": len(self.ids),
            "kept": int(self.kept.sum()),
            "rows": [self.removed_rows(place) for place in range(len(self.rows))],
        }

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name."""
        rows = {f"rows.{place}": runs for place, runs in enumerate(self.rows)}
        return {PREFIX + key: value for key, value in {"ids": self.ids, "kept": self.kept, **rows}.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self | None:
        """The inverse of :meth:`tensors`; None if nothing was removed.

        Raises:
            KeyError: a tensor is missing.
        """
        own = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
        if not own:
            return None
        ids, kept = own.pop("ids"), own.pop("kept")
        return cls(ids, kept, tuple(own[f"rows.{place}"] for place in range(len(own))))


def as_runs(marked: Tensor) -> Tensor:
    """``bool [rows]`` to the runs of its true places, ``int64 [runs, 2]``."""
    edges = torch.diff(marked.to(torch.int8), prepend=marked.new_zeros(1).to(torch.int8))
    starts = (edges == 1).nonzero().squeeze(1)
    ends = (edges == -1).nonzero().squeeze(1)
    ends = torch.cat([ends, ends.new_tensor([len(marked)])]) if len(ends) < len(starts) else ends
    return torch.stack([starts, ends - starts], dim=1)


def as_mask(runs: Tensor, rows: int) -> Tensor:
    """The inverse of :func:`as_runs`."""
    steps = torch.zeros(rows + 1, dtype=torch.int64, device=runs.device)
    steps[runs[:, 0]] = 1
    steps[runs[:, 0] + runs[:, 1]] = -1
    return steps.cumsum(0)[:rows].bool()


def merged(old: Tombstones | None, ids: Tensor, kept: Tensor, marked: Sequence[Tensor]) -> Tombstones:
    """Old tombstones and new ones.

    Args:
        old: what was removed before.
        ids: ``int64``, distinct; IDs that are removed now.
        kept: ``bool``, for each of them whether rows that other IDs chose as well stay.
        marked: for each layer with sinks, ``bool [pool]``, the virtual rows that go now.
    """
    if old is not None:
        marked = [own | as_mask(runs, len(own)) for own, runs in zip(marked, old.rows, strict=True)]
    known = {} if old is None else dict(zip(old.ids.tolist(), old.kept.tolist(), strict=True))
    new = {i: k and known.get(i, True) for i, k in zip(ids.tolist(), kept.tolist(), strict=True)}
    together = sorted({**known, **new}.items())
    return Tombstones(
        torch.tensor([i for i, _ in together], dtype=torch.int64),
        torch.tensor([k for _, k in together], dtype=torch.bool),
        tuple(as_runs(own) for own in marked),
    )
