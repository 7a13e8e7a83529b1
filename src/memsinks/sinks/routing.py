"""From modes, sequence IDs and masks to per-token data, once per forward pass.

Shape letters: B batch rows, T tokens, n routed tokens, L layers, G groups of tokens that share a set of sinks,
K sinks in a set.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from memsinks.errors import SequenceIdError
from memsinks.ids import to_tensor
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import OFF, OWN, Mode
from memsinks.sinks.selection import select


class Routing(NamedTuple):
    """Which tokens run through which sinks.

    Attributes:
        rows: ``int64 [L, G, K]``, rows of the pool.
        scale: ``[L, G, K]`` factors on the sinks' activations (0 for padding of smaller sets), or None for all ones.
        tokens: ``int64 [n]``, positions in the flattened ``[B*T]`` batch, sorted by group.
        counts: number of tokens in each group.
        whole: ``tokens`` is every position in order, so nothing needs to be moved.
    """

    rows: Tensor
    scale: Tensor | None
    tokens: Tensor
    counts: tuple[int, ...]
    whole: bool


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
    wanted = (torch.bool,) if name == "sink_mask" else (torch.int64, torch.uint64)
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
    ids: Tensor | None, mask: Tensor, modes: Modes, config: SinkConfig, layers: int, dtype: torch.dtype
) -> Routing | None:
    """Resolve modes, IDs and masks.

    Args:
        ids: ``int64 [B, T]``, or None where every row's mode brings its own sinks (or none).
        mask: ``bool [B, T]``; tokens where it is false get no sinks.
        modes: one mode for all rows, or one for each row.
        config: with resolved counts.
        layers: number of layers with sinks.
        dtype: of the scale factors.

    Returns:
        None if no row's mode uses sinks. A batch in which every token is masked still gives a routing, of no groups,
        so that a training step has a gradient for the sinks whatever its data.
    """
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

    # Groups: one for each fixed mode, then one for each distinct ID of tokens in their own mode.
    row_group = torch.tensor(
        [fixed.index(m) if m in fixed else -2 if m == OWN and ids is not None else -1 for m in per_row],
        device=mask.device,
    )
    group = torch.where(mask, row_group[:, None], -1)
    own = group == -2
    own_ids, own_index = torch.unique(ids[own] if ids is not None else row_group.new_empty(0), return_inverse=True)
    group = group.masked_scatter(own, own_index + len(fixed)).flatten()

    tokens = (group >= 0).nonzero().squeeze(1)
    order = torch.argsort(group[tokens], stable=True)
    tokens = tokens[order]
    used, counts = torch.unique_consecutive(group[tokens], return_counts=True)
    rows, scale = _row_sets(fixed, own_ids, config, layers, dtype)
    return Routing(
        rows=rows[:, used],
        scale=None if scale is None else scale[:, used],
        tokens=tokens,
        counts=tuple(counts.tolist()),
        whole=len(used) > 0 and len(tokens) == group.numel() and bool((order[1:] > order[:-1]).all()),
    )


def fixed_rows(mode: Mode, config: SinkConfig, layers: int, device: torch.device) -> tuple[list[Tensor], float]:
    """The distinct rows that a mode other than own and off switches on in each layer, and their scale."""
    if mode.kind == "all":
        return [torch.arange(int(config.pool), device=device)] * layers, config.active / config.pool
    rows_LNK = _select(to_tensor(mode.ids).to(device), config, layers)
    return [torch.unique(rows) for rows in rows_LNK], 1.0


def _select(ids: Tensor, config: SinkConfig, layers: int) -> Tensor:
    return select(
        ids, seed=config.seed, layers=layers, pool=int(config.pool), active=int(config.active), block=config.block
    )


def _row_sets(
    fixed: list[Mode], own_ids: Tensor, config: SinkConfig, layers: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Rows and scales of all sets, padded to the largest: ``[L, len(fixed) + len(own_ids), K]``."""
    own_rows = _select(own_ids, config, layers)
    if not fixed:
        return own_rows, None
    sets = [fixed_rows(mode, config, layers, own_ids.device) for mode in fixed]
    sizes = [[len(rows) for rows in by_layer] for by_layer, _ in sets]
    largest = max(max(max(s) for s in sizes), own_rows.shape[-1] if len(own_ids) else 0)
    rows = own_ids.new_zeros(layers, len(fixed) + len(own_ids), largest)
    scale = torch.zeros(rows.shape, dtype=dtype, device=rows.device)
    for index, (by_layer, factor) in enumerate(sets):
        for layer, chosen in enumerate(by_layer):
            rows[layer, index] = chosen[0]
            rows[layer, index, : len(chosen)] = chosen
            scale[layer, index, : len(chosen)] = factor
    if len(own_ids):
        rows[:, len(fixed) :] = own_rows[..., :1]
        rows[:, len(fixed) :, : own_rows.shape[-1]] = own_rows
        scale[:, len(fixed) :, : own_rows.shape[-1]] = 1
    return rows, scale
