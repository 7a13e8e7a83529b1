"""From modes, sequence IDs and masks to per-token data, once per forward pass.

Shape letters: B batch rows, T tokens, n routed tokens, L layers with sinks, G groups of tokens that share a set of
sinks, K sinks in a set.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from memsinks.errors import SequenceIdError
from memsinks.ids import format_id, from_tensor, to_tensor
from memsinks.sinks.allocation import AllocationTable, Located
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import OFF, OWN, Mode
from memsinks.sinks.sharding import Requests


class Routing(NamedTuple):
    """Which tokens run through which sinks.

    Attributes:
        rows: ``int64 [L, G, K]``, rows of the pool.
        scale: ``[L, G, K]`` factors on the sinks' activations (0 for padding of smaller sets), or None for all ones.
        tokens: ``int64 [n]``, positions in the flattened ``[B*T]`` batch, sorted by group.
        counts: number of tokens in each group.
        whole: ``tokens`` is every position in order, so nothing needs to be moved.
        frozen: the same for the tokens whose sinks do not learn, which are not among ``tokens``; None without any.
        requests: of each layer, where sinks are spread over ranks: ``rows`` are then positions among the wanted rows.
    """

    rows: Tensor
    scale: Tensor | None
    tokens: Tensor
    counts: tuple[int, ...]
    whole: bool
    frozen: "Routing | None" = None
    requests: list[Requests] | None = None


Modes = Mode | tuple[Mode, ...]


def check_ids(ids: Tensor | None, batch: int, length: int, name: str = "sequence_ids") -> Tensor | None:
    """IDs (or a mask) as ``[B, T]``.

    Raises:
        SequenceIdError: the shape is neither ``[B]`` nor ``[B, T]``, or the type is wrong.
    """
    if ids is None:
        return None
    if not isinstance(ids, Tensor):
        raise SequenceIdError(f"{name} must be a tensor, not {type(ids).__name__}; see memsinks.ids.to_tensor")
    wanted = (torch.int64, torch.uint64) if name == "sequence_ids" else (torch.bool,)
    if ids.dtype not in wanted:
        kinds = " or ".join(str(kind).removeprefix("torch.") for kind in wanted)
        raise SequenceIdError(f"{name} must be {kinds}, not {str(ids.dtype).removeprefix('torch.')}")
    if ids.shape not in ((batch,), (batch, length)):
        raise SequenceIdError(
            f"{name} has shape {list(ids.shape)}; expected one per row, [{batch}], or one per token, "
            f"[{batch}, {length}]"
        )
    ids = ids.view(torch.int64) if ids.dtype == torch.uint64 else ids
    return ids if ids.ndim == 2 else ids[:, None].expand(batch, length)


def route(
    ids: Tensor | None,
    mask: Tensor,
    modes: Modes,
    config: SinkConfig,
    layers: int,
    dtype: torch.dtype,
    *,
    table: AllocationTable | None = None,
    frozen: Tensor | None = None,
    strict: bool = False,
) -> Routing | None:
    """Resolve modes, IDs and masks.

    Args:
        ids: ``int64 [B, T]``, or None where every row's mode brings its own sinks (or none).
        mask: ``bool [B, T]``; tokens where it is false get no sinks.
        modes: one mode for all rows, or one for each row.
        config: with resolved counts.
        layers: decoder layers of the model; ``config`` says which have sinks.
        dtype: of the scale factors.
        table: which rows belong to whom; default that of a new pool.
        frozen: ``bool [B, T]``; tokens whose sinks do not learn.
        strict: refuse tokens in their own mode whose ID has no sinks, instead of routing them to none. Frozen tokens
            are never refused: nothing of theirs is to be removed.

    Returns:
        None if no row's mode uses sinks. A batch in which every token is masked still gives a routing, of no groups,
        so that a training step has a gradient for the sinks whatever its data.

    Raises:
        SequenceIdError: the number of modes is not that of rows, or an ID has no sinks and ``strict`` is set.
    """
    table = (AllocationTable.initial(config) if table is None else table).on(mask.device)
    frozen = None if frozen is None else frozen & mask
    if frozen is None or not frozen.any():
        return _route(ids, mask, modes, config, layers, dtype, table, strict)
    learning = _route(ids, mask & ~frozen, modes, config, layers, dtype, table, strict)
    if learning is None:
        return None
    return learning._replace(frozen=_route(ids, frozen, modes, config, layers, dtype, table, strict=False))


def _route(
    ids: Tensor | None,
    mask: Tensor,
    modes: Modes,
    config: SinkConfig,
    layers: int,
    dtype: torch.dtype,
    table: AllocationTable,
    strict: bool,
) -> Routing | None:
    """:func:`route` for tokens of one kind."""
    batch = mask.shape[0]
    if isinstance(modes, tuple) and len(modes) != batch:
        raise SequenceIdError(f"{len(modes)} modes were given for a batch of {batch} rows")
    per_row = modes if isinstance(modes, tuple) else (modes,) * batch
    kinds = list(dict.fromkeys(per_row))
    if ids is None:
        kinds = [kind for kind in kinds if kind != OWN]
    fixed = [kind for kind in kinds if kind not in (OWN, OFF)]
    if not fixed and OWN not in kinds:
        return None

    # Groups: one for each fixed mode, then one for each distinct ID of tokens in their own mode; -1 is no group.
    sets = [fixed_rows(mode, config, layers, mask.device, table) for mode in fixed]
    empty = [not any(map(len, rows)) for rows, _ in sets]
    codes = {mode: -1 if empty[index] else index for index, mode in enumerate(fixed)}
    codes |= {OFF: -1, OWN: -1 if ids is None else -2}
    row_group = torch.tensor([codes[mode] for mode in per_row], device=mask.device)
    group = torch.where(mask, row_group[:, None], -1)
    own = group == -2
    own_ids, own_index = torch.unique(ids[own] if ids is not None else row_group.new_empty(0), return_inverse=True)
    located = table.locate(own_ids, config, layers)
    if strict and not located.held.all():
        _refuse(own_ids[~located.held], table)
    if config.active == table.pool and table.removed is None and located.held.all():
        # Every ID has the whole pool: their tokens are one group, whose rows are fetched once.
        own_index = torch.zeros_like(own_index)
    own_group = torch.where(located.held, torch.arange(len(own_ids), device=mask.device) + len(fixed), -1)
    group = group.masked_scatter(own, own_group[own_index]).flatten()

    tokens = (group >= 0).nonzero().squeeze(1)
    order = torch.argsort(group[tokens], stable=True)
    tokens = tokens[order]
    used, counts = torch.unique_consecutive(group[tokens], return_counts=True)
    rows, scale = _row_sets(sets, located, dtype)
    return Routing(
        rows=rows[:, used],
        scale=None if scale is None else scale[:, used],
        tokens=tokens,
        counts=tuple(counts.tolist()),
        whole=len(used) > 0 and len(tokens) == group.numel() and bool((order[1:] > order[:-1]).all()),
    )


def fixed_rows(
    mode: Mode, config: SinkConfig, layers: int, device: torch.device, table: AllocationTable | None = None
) -> tuple[list[Tensor], float]:
    """The distinct rows that a mode other than own and off switches on in each layer with sinks, and their scale.

    ``layers`` counts the model's decoder layers. Without a table, rows are those of a new pool. There are none if no ID
    of the mode has sinks.
    """
    table = (AllocationTable.initial(config) if table is None else table).on(device)
    if mode.kind == "all":
        places = range(len(config.layer_numbers(layers)))
        return [torch.arange(table.rows_in(place), device=device) for place in places], config.active / config.pool
    located = table.locate(to_tensor(mode.ids).to(device), config, layers)
    # An absent row stands as one that is there.
    return [torch.unique(rows[located.held]) for rows in located.rows], 1.0


def _row_sets(sets: list[tuple[list[Tensor], float]], own: Located, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Rows and scales of fixed sets and own ones, padded to the largest: ``[L, sets + own, K]``."""
    if not sets:
        return own.rows, None if own.present is None or own.present.all() else own.present.to(dtype)
    layers, count, active = own.rows.shape
    largest = max(active if count else 1, *(len(rows) for by_layer, _ in sets for rows in by_layer))
    rows = own.rows.new_zeros(layers, len(sets) + count, largest)
    scale = torch.zeros(rows.shape, dtype=dtype, device=rows.device)
    for index, (by_layer, factor) in enumerate(sets):
        for layer, chosen in enumerate(by_layer):
            if len(chosen):
                rows[layer, index] = chosen[0]
                rows[layer, index, : len(chosen)] = chosen
                scale[layer, index, : len(chosen)] = factor
    if count:
        rows[:, len(sets) :] = own.rows[..., :1]
        rows[:, len(sets) :, :active] = own.rows
        scale[:, len(sets) :, :active] = 1 if own.present is None else own.present.to(dtype)
    return rows, scale


def _refuse(ids: Tensor, table: AllocationTable) -> None:
    removed = torch.empty(0) if table.removed is None else ids[torch.isin(ids, table.removed.ids)]
    named = removed if len(removed) else ids
    shown = ", ".join(format_id(i) for i in from_tensor(named[:3]))
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    if len(removed):
        raise SequenceIdError(
            f"sequence ID {shown}{more} was removed from this model, and its text must not be trained again; take it "
            "out of the text"
        )
    raise SequenceIdError(
        f"no sinks belong to sequence ID {shown}{more}, so that text would be trained into shared weights alone; "
        "register it before training (memsinks.register(model, ids)), or set its sink_mask to false"
    )
