"""Which rows of the pool belong to whom.

A pool consists of regions that never move: *segments*, from which IDs choose rows by hashing, and *owned* regions, cut
into slots of ``active`` consecutive rows that belong to one registered ID each. The table says which region serves an
ID; it is immutable, and the same for all layers. Growth appends a region and moves no row. Removal takes rows away for
good (:mod:`memsinks.sinks.tombstones`): regions and choices are in virtual rows, whose numbers it leaves alone.

Shape letters: n IDs, L layers with sinks, K active rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from memsinks.errors import CheckpointError, ConfigError
from memsinks.ids import format_id, from_tensor, to_tensor
from memsinks.sinks.config import Allocation, SinkConfig
from memsinks.sinks.selection import select
from memsinks.sinks.tombstones import Tombstones

PREFIX = "allocation."
"""Of the table's tensors in ``sinks.safetensors``."""


class Region(NamedTuple):
    """``rows`` neighbouring rows of the pool, from row ``first``."""

    first: int
    rows: int


class Located(NamedTuple):
    """Where the rows of some IDs are.

    Attributes:
        rows: ``int64 [L, n, K]``, positions in the layers' tensors. An absent row stands as another one of its ID, and
            all rows of an ID that is not ``held`` are arbitrary.
        present: ``bool [L, n, K]``, false for removed rows; None if nothing was removed.
        held: ``bool [n]``, the IDs that have sinks, at least one in each layer.
    """

    rows: Tensor
    present: Tensor | None
    held: Tensor


@dataclass(frozen=True, eq=False)
class AllocationTable:
    """The regions of a pool, and the IDs that do not simply choose from its newest segment.

    Attributes:
        segments: regions to choose from by hashing; IDs choose from the last, but for ``registered`` ones.
        owned: regions that are cut into slots, in the order in which their slots are given away.
        owner_ids: ``int64 [owners]``, sorted; the bit patterns of the IDs that own a slot.
        owner_rows: ``int64 [owners]``, the first row of each owner's slot.
        registered: for each segment but the last, ``int64 [*]``, sorted: the IDs that keep choosing from it.
        removed: what was removed, if anything was.
    """

    segments: tuple[Region, ...]
    owned: tuple[Region, ...]
    owner_ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    owner_rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    registered: tuple[Tensor, ...] = ()
    removed: Tombstones | None = None
    _copies: dict[torch.device, "AllocationTable"] = field(default_factory=dict, repr=False)

    @classmethod
    def initial(cls, config: SinkConfig) -> Self:
        """The table of a new pool, without owners.

        Args:
            config: with resolved counts.
        """
        pool = int(config.pool)
        owned = {"hashed": 0, "disjoint": pool, "hybrid": int(config.owned)}[config.allocation]
        return cls(
            segments=(Region(0, pool - owned),) if pool > owned else (),
            owned=(Region(pool - owned, owned),) if owned else (),
        )

    @property
    def kind(self) -> Allocation:
        """The allocation policy that the regions are for."""
        if not self.owned:
            return "hashed"
        return "hybrid" if self.segments else "disjoint"

    @property
    def pool(self) -> int:
        """Virtual rows in all regions, removed ones among them."""
        return sum(region.rows for region in (*self.segments, *self.owned))

    def rows_in(self, place: int) -> int:
        """Rows that the tensors of a layer hold; ``place`` is its number among those with sinks."""
        return self.pool - (0 if self.removed is None else self.removed.removed_rows(place))

    @property
    def owned_rows(self) -> int:
        """Rows that are, or can be, owned."""
        return sum(region.rows for region in self.owned)

    def on(self, device: torch.device) -> "AllocationTable":
        """The same table with its tensors on ``device``; copied once."""
        if device == self.owner_ids.device:
            return self
        if device not in self._copies:
            self._copies[device] = replace(
                self,
                owner_ids=self.owner_ids.to(device),
                owner_rows=self.owner_rows.to(device),
                registered=tuple(ids.to(device) for ids in self.registered),
                removed=None if self.removed is None else self.removed.on(device),
                _copies={},
            )
        return self._copies[device]

    def locate(self, ids: Tensor, config: SinkConfig, layers: int) -> Located:
        """Where in the layers' tensors the rows of each ID are.

        Without segments, only owners have sinks. A removed ID has none, and one that lost all its rows in a layer has
        none in any.

        Args:
            ids: ``int64 [n]``, on the table's device.
            config: with resolved counts.
            layers: decoder layers of the model.
        """
        rows = self.rows(ids, config, layers)
        held = torch.ones_like(ids, dtype=torch.bool) if self.segments else _find(self.owner_ids, ids)[0]
        if self.removed is None:
            return Located(rows, None, held)
        found = [self.removed.find(place, own) for place, own in enumerate(rows)]
        places, present = (torch.stack(parts) for parts in zip(*found, strict=True))
        held = held & ~_find(self.removed.ids, ids)[0] & present.any(-1).all(0)
        first = present.to(torch.int8).argmax(-1, keepdim=True)
        return Located(torch.where(present, places, places.gather(-1, first)), present, held)

    def rows(self, ids: Tensor, config: SinkConfig, layers: int) -> Tensor:
        """The virtual rows of each ID in each layer with sinks.

        Args:
            ids: ``int64 [n]``, on the table's device.
            config: with resolved counts.
            layers: decoder layers of the model.

        Returns:
            ``int64 [L, n, K]``, distinct along the last dimension; arbitrary for IDs without sinks. Removed rows are
            among them: :meth:`locate` says which rows there are.
        """
        active = int(config.active)
        numbers = config.layer_numbers(layers)
        # With one mask, every layer chooses as the first decoder layer would, whichever layers have sinks.
        hashed = (0,) if config.mask == "shared" else numbers
        options: dict[str, Any] = {"seed": config.seed, "layers": hashed, "active": active, "block": config.block}
        if len(self.segments) == 1 and not self.owned:
            return select(ids, pool=self.segments[0].rows, **options).expand(len(numbers), -1, -1)
        rows = ids.new_zeros(len(numbers), len(ids), active)
        is_owner, owner = _find(self.owner_ids, ids)
        segment = torch.full_like(ids, len(self.segments) - 1)
        for number, keepers in enumerate(self.registered):
            segment[_find(keepers, ids)[0]] = number
        segment[is_owner] = -1
        for number, region in enumerate(self.segments):
            chosen = (segment == number).nonzero().squeeze(1)
            if len(chosen):
                rows[:, chosen] = select(ids[chosen], pool=region.rows, **options) + region.first
        slots = self.owner_rows[owner[is_owner]][:, None] + torch.arange(active, device=ids.device)
        rows[:, is_owner] = slots
        return rows

    def with_owners(self, ids: Iterable[int] | np.ndarray, active: int) -> Self:
        """The table in which each of ``ids`` owns a slot; new owners get the next slots in the order given.

        Raises:
            ConfigError: nothing can be owned here, or too few slots are free.
        """
        if not self.owned:
            raise ConfigError(
                "allocation='hashed' has no rows to own; attach sinks with allocation='disjoint' or 'hybrid'"
            )
        wanted = to_tensor(ids).numpy()
        wanted = wanted[np.sort(np.unique(wanted, return_index=True)[1])]
        new = torch.from_numpy(wanted)
        if self.removed is not None and (gone := new[_find(self.removed.ids, new)[0]]).numel():
            shown = format_id(int(from_tensor(gone)[0]))
            raise ConfigError(
                f"ID {shown} was removed from this model, and nothing can be trained under it again; leave it out"
            )
        new = new[~_find(self.owner_ids, new)[0]]
        starts = [torch.arange(r.first, r.first + r.rows - active + 1, active) for r in self.owned]
        free = torch.cat(starts)
        free = free[~torch.isin(free, self.owner_rows)]
        if self.removed is not None:
            # An owner has the same rows in every layer.
            free = free[self.removed.find(0, free)[1]]
        if len(new) > len(free):
            missing = (len(new) - len(free)) * active
            remedy = (
                f"memsinks.grow(model, {missing}, trained=()) adds them"
                if self.kind == "disjoint"
                else f"attach sinks with owned={self.owned_rows + missing} or more"
            )
            raise ConfigError(
                f"{len(new)} new owners need {len(new) * active} rows and {len(free) * active} of the "
                f"{self.owned_rows} owned rows are free: {missing} rows more are needed; {remedy}"
            )
        owner_ids, order = torch.cat([self.owner_ids, new]).sort()
        owner_rows = torch.cat([self.owner_rows, free[: len(new)]])[order]
        return replace(self, owner_ids=owner_ids, owner_rows=owner_rows, _copies={})

    def grown(self, rows: int, config: SinkConfig, trained: Iterable[int] | np.ndarray) -> Self:
        """The table with ``rows`` rows more at the end of the pool; see :func:`memsinks.grow`.

        Raises:
            ConfigError: ``rows`` is no positive multiple of what is handed out, or too few for one ID.
        """
        disjoint = self.kind == "disjoint"
        multiple, what = (int(config.active), "active") if disjoint else (config.block, "block")
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < int(config.active) or rows % multiple:
            raise ConfigError(
                f"a pool grows by at least active={config.active} rows and by a multiple of {what}={multiple}, "
                f"not by {rows!r}"
            )
        region = Region(self.pool, rows)
        keepers = to_tensor(trained)
        if disjoint:
            return replace(self, owned=(*self.owned, region), _copies={})
        if self.removed is not None:
            # What they chose is asked again when others that shared it are removed.
            keepers = torch.cat([keepers, self.removed.ids])
        for known in (self.owner_ids, *self.registered):
            keepers = keepers[~_find(known, keepers)[0]]
        return replace(
            self,
            segments=(*self.segments, region),
            registered=(*self.registered, keepers.unique()),
            _copies={},
        )

    def facts(self) -> dict[str, Any]:
        """Regions and counts, for ``sinks.json``."""
        return {
            "segments": [list(region) for region in self.segments],
            "owned": [list(region) for region in self.owned],
            "owners": len(self.owner_ids),
            "registered": [len(ids) for ids in self.registered],
            **({} if self.removed is None else {"removed": self.removed.facts()}),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The whole table, for ``sinks.safetensors``."""
        found = {
            "segments": torch.tensor(self.segments, dtype=torch.int64).view(-1, 2),
            "owned": torch.tensor(self.owned, dtype=torch.int64).view(-1, 2),
            "owner_ids": self.owner_ids,
            "owner_rows": self.owner_rows,
            **{f"registered.{number}": ids for number, ids in enumerate(self.registered)},
            **({} if self.removed is None else self.removed.tensors()),
        }
        return {PREFIX + key: value for key, value in found.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: SinkConfig) -> Self:
        """The inverse of :meth:`tensors`; without any tensor of the table, the table of a new pool.

        Raises:
            CheckpointError: a tensor is missing, or the table is not for such a pool.
        """
        own = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
        if not own:
            return cls.initial(config)
        try:
            segments, owned = (
                tuple(Region(*pair) for pair in own.pop(name).tolist()) for name in ("segments", "owned")
            )
            table = cls(
                segments,
                owned,
                own.pop("owner_ids"),
                own.pop("owner_rows"),
                tuple(own.pop(f"registered.{number}") for number in range(len(segments) - 1)),
                Tombstones.from_tensors(own),
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"the allocation table lacks {error}; restore the sinks from a copy") from error
        expected = cls.initial(config)
        if (table.kind, table.pool, table.owned_rows) != (expected.kind, expected.pool, expected.owned_rows):
            raise CheckpointError(
                f"the allocation table is for a {table.kind} pool of {table.pool} rows, {table.owned_rows} of them "
                f"owned; this model's is {expected.kind}, of {expected.pool} and {expected.owned_rows}"
            )
        return table


def _find(known: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Whether and where each ID is in the sorted ``known``: ``bool [n]``, ``int64 [n]``."""
    if not len(known):
        return torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids)
    place = torch.searchsorted(known, ids).clamp_(max=len(known) - 1)
    return known[place] == ids, place
