"""Take the sinks of IDs out of a pool, for good."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memsinks.errors import ConfigError
from memsinks.ids import to_tensor
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import host_of
from memsinks.sinks.tombstones import merged

_CHUNK = 1 << 22
"""Rows chosen at a time."""


def remove(
    model: nn.Module,
    ids: Iterable[int] | np.ndarray | None,
    *,
    survivors: Iterable[int] | np.ndarray | None = None,
) -> None:
    """Take the sinks of ``ids`` out of the model: their rows leave the tensors, and the IDs never have sinks again.

    Rows do not come back: IDs that chose some of them as well go on without. Under ``allocation="disjoint"`` nobody
    else has them. Freed room is not given away again; :func:`memsinks.grow` adds rows, under new numbers. Several
    removals give the same model, bit for bit, in whatever order they are made.

    The model in mode off, and every row that stays, keep their bits. An optimiser made before has state for rows that
    are gone; make a new one. Nothing changes if an error is raised.

    Args:
        model: with sinks attached, or a wrapper around it.
        ids: sequence IDs; None removes all sinks, whoever chose them.
        survivors: all sequence IDs that were trained with their sinks and are to keep them. Given, rows that one of
            these chose stay, although what a removed ID left in them stays too; not given, every row of ``ids`` goes.

    Raises:
        ConfigError: the model has no sinks, or they are spread over ranks.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """
    host = _whole(model)
    config, old, count = host.sink_config, host.sink_allocation, host.config.num_hidden_layers
    if ids is None:
        new = without_any(old, config, count)
    else:
        staying = None if survivors is None else to_tensor(survivors)
        new = without(old, to_tensor(ids), config, count, survivors=staying)
    _cut(host, new)


def follow_removal(model: nn.Module, table: AllocationTable) -> None:
    """Take out of a model in memory what was removed from its checkpoint since it was loaded, and no other row.

    Nothing changes if an error is raised.

    Args:
        model: with sinks attached, or a wrapper around it.
        table: of the checkpoint, after removals.

    Raises:
        ConfigError: the model has no sinks, they are spread over ranks, or the table is not the model's own after
            removals.
    """
    host = _whole(model)
    old, new = host.sink_allocation.on(torch.device("cpu")), table.on(torch.device("cpu"))
    places = len(host.sink_config.layer_numbers(host.config.num_hidden_layers))
    if not _is_later(old, new, places):
        raise ConfigError(
            "the allocation table is not that of this model after a removal, so the checkpoint is another one by now; "
            "load it again"
        )
    _cut(host, new)


def _is_later(old: AllocationTable, new: AllocationTable, places: int) -> bool:
    """Whether removals alone lead from one table to the other."""
    if (old.segments, old.owned) != (new.segments, new.owned):
        return False
    if not all(torch.equal(own, other) for own, other in zip(old.registered, new.registered, strict=True)):
        return False
    if not torch.isin(new.owner_ids, old.owner_ids).all():
        return False
    before, after = present_rows(old, places), present_rows(new, places)
    return all(bool((there | ~left).all()) for there, left in zip(before, after, strict=True))


def _whole(model: nn.Module) -> Any:
    """The model with sinks, all of which are in this process."""
    host = host_of(model)
    if any(sinks.shard is not None for sinks in sinks_of(host)):
        raise ConfigError("these sinks are spread over ranks; load the saved model in one process to remove some")
    return host


def _cut(host: Any, new: AllocationTable) -> None:
    """Bring a model's tensors to a table after removals."""
    left = []
    for sinks in sinks_of(host):
        kept = kept_rows(host.sink_allocation, new, sinks.place)
        left += [(p, p.data[kept.to(p.device)]) for p in sinks.parameters(recurse=False)]
    # All or none: memory may have run out above.
    for parameter, rows in left:
        parameter.grad, parameter.data = None, rows
    host.sink_allocation = new


def without(
    table: AllocationTable, ids: Tensor, config: SinkConfig, layers: int, *, survivors: Tensor | None = None
) -> AllocationTable:
    """The table after a removal; see :func:`remove`.

    Args:
        table: before.
        ids: ``int64 [n]``, the IDs to remove.
        config: with resolved counts.
        layers: decoder layers of the model.
        survivors: ``int64 [*]``, or None.
    """
    table = table.on(torch.device("cpu"))
    ids = torch.unique(ids)
    if survivors is None:
        marked = chosen_rows(table, ids, config, layers)
    else:
        # With those of earlier removals that kept shared rows: what only removed IDs share goes with the last of them.
        earlier = ids[:0] if table.removed is None else table.removed.ids[table.removed.kept]
        marked = chosen_rows(table, torch.unique(torch.cat([ids, earlier])), config, layers)
        staying = chosen_rows(table, survivors[~torch.isin(survivors, ids)], config, layers)
        marked = [own & ~others for own, others in zip(marked, staying, strict=True)]
    kept = torch.full_like(ids, survivors is not None, dtype=torch.bool) & ~torch.isin(ids, table.owner_ids)
    removed = merged(table.removed, ids, kept, marked)
    stays = ~torch.isin(table.owner_ids, ids)
    return replace(
        table, owner_ids=table.owner_ids[stays], owner_rows=table.owner_rows[stays], removed=removed, _copies={}
    )


def without_any(table: AllocationTable, config: SinkConfig, layers: int) -> AllocationTable:
    """The table after all rows were removed; owners are removed IDs then, and nobody else has sinks left."""
    table = table.on(torch.device("cpu"))
    every = [torch.ones(table.pool, dtype=torch.bool)] * len(config.layer_numbers(layers))
    removed = merged(table.removed, table.owner_ids, torch.zeros_like(table.owner_ids, dtype=torch.bool), every)
    return replace(table, owner_ids=table.owner_ids[:0], owner_rows=table.owner_rows[:0], removed=removed, _copies={})


def chosen_rows(table: AllocationTable, ids: Tensor, config: SinkConfig, layers: int) -> list[Tensor]:
    """For each layer with sinks, ``bool [pool]``: the virtual rows that any of the IDs chooses or owns.

    An ID without sinks chooses none. Stops when every row is chosen, so that a great many IDs take no longer than it
    needs to fill the pool.
    """
    places = len(config.layer_numbers(layers))
    marked = torch.zeros(places, table.pool, dtype=torch.bool)
    if not table.segments:
        ids = ids[torch.isin(ids, table.owner_ids)]
    step = max(1, _CHUNK // (places * int(config.active)))
    for start in range(0, len(ids), step):
        rows = table.rows(ids[start : start + step], config, layers)
        marked.scatter_(1, rows.flatten(1), True)
        if marked.all():
            break
    return list(marked)


def present_rows(table: AllocationTable, places: int) -> list[Tensor]:
    """For each layer with sinks, ``bool [pool]``: the virtual rows that are there."""
    every = torch.arange(table.pool)
    if table.removed is None:
        return [torch.ones_like(every, dtype=torch.bool)] * places
    return [table.removed.find(place, every)[1] for place in range(places)]


def kept_rows(old: AllocationTable, new: AllocationTable, place: int) -> Tensor:
    """Positions in a layer's tensors, before a removal, of the rows that are there after it: ``int64``, in order."""
    pool = torch.arange(new.pool)
    stays = pool if new.removed is None else new.removed.present(place, new.pool)
    return stays if old.removed is None else old.removed.find(place, stays)[0]


def freed_rows(old: AllocationTable, new: AllocationTable, place: int) -> Tensor:
    """Positions in a layer's tensors, before a removal, of the rows that it takes: ``int64``, in order."""
    stays = torch.zeros(old.rows_in(place), dtype=torch.bool)
    stays[kept_rows(old, new, place)] = True
    return (~stays).nonzero().squeeze(1)
