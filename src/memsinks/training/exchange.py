"""Gradients of sinks between ranks: only rows that some rank touched travel, once a step, after accumulation.

DDP and FSDP2 are told to leave sinks alone; here their gradients are summed over ranks and divided by the number of
ranks, exactly as those average the rest. Which rows were touched is the union over ranks of what their batches
selected, so every rank steps the same rows, also a rank whose own batch touched none.

Shape letters: U rows touched by any rank in a layer, W width of a row over all of a layer's parameters.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from memsinks.sinks.layer import Sinks
from memsinks.sinks.sharding import request_rows, send_back
from memsinks.training.ranks import ranks
from memsinks.training.row_gradients import sum_rows


def exchange(layers: list[Sinks], group: Any = None) -> None:
    """Average the sinks' gradients over ranks, in place; all ranks take part.

    Args:
        layers: the sinks of all layers; all sharded, or all with row-sparse gradients, or all with dense ones.
        group: process group; default all ranks.
    """
    if not layers:
        return
    if layers[0].shard is not None:
        _to_owners(layers)
    elif layers[0].row_sparse:
        _union_of_rows(layers, group)
    else:
        _whole(layers, group)


def _to_owners(layers: list[Sinks]) -> None:
    shard = layers[0].shard
    assert shard is not None
    summed = [_summed(layer.pending or [_nothing(layer)]) for layer in layers]
    requests = request_rows([rows for rows, _ in summed], shard)
    for layer, (rows, values), request in zip(layers, summed, requests, strict=True):
        layer.pending.clear()
        # The rows are each there once, so the wanted ones are the same in another order.
        received = send_back(values[torch.searchsorted(rows, request.wanted)], request, shard)
        positions, values = _summed([(request.served, received)])
        _set_gradients(layer, positions, values.div_(shard.world))


def _union_of_rows(layers: list[Sinks], group: Any) -> None:
    pool, world = layers[0].up.shape[0], ranks(group)
    sum_rows(layers)
    mine = [_touched(layer) for layer in layers]
    union = _union(torch.cat([rows + i * pool for i, (rows, _) in enumerate(mine)]), group)
    bounds = torch.searchsorted(union, torch.arange(len(layers) + 1, device=union.device) * pool).tolist()
    for i, (layer, (rows, values)) in enumerate(zip(layers, mine, strict=True)):
        union_U = union[bounds[i] : bounds[i + 1]] - i * pool
        sum_UW = values.new_zeros(len(union_U), values.shape[1])
        sum_UW[torch.searchsorted(union_U, rows)] = values
        dist.all_reduce(sum_UW, group=group)
        _set_gradients(layer, union_U, sum_UW.div_(world))


def _whole(layers: list[Sinks], group: Any) -> None:
    world = ranks(group)
    for layer in layers:
        touched = torch.zeros(layer.up.shape[0], dtype=torch.uint8, device=layer.up.device)
        for rows in layer.touched or []:
            touched[rows] = 1
        dist.all_reduce(touched, dist.ReduceOp.MAX, group=group)
        layer.touched = [touched.nonzero().squeeze(1)]
        for parameter in layer.parameters(recurse=False):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad.div_(world)


def _touched(layer: Sinks) -> tuple[Tensor, Tensor]:
    """Rows with a gradient here, sorted and each once, and their gradients in all parameters side by side."""
    # One fetch gives all parameters of a layer the same rows.
    gradients = [p.grad for p in layer.parameters(recurse=False) if p.grad is not None]
    if not gradients:
        return _nothing(layer)
    return gradients[0].indices()[0], torch.cat([g.values() for g in gradients], dim=1)


def _nothing(layer: Sinks) -> tuple[Tensor, Tensor]:
    width = sum(p.shape[1] for p in layer.parameters(recurse=False))
    return torch.empty(0, dtype=torch.int64, device=layer.up.device), layer.up.new_zeros(0, width)


def _summed(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows, sorted and each once, and the sums of their values."""
    rows, index = torch.unique(torch.cat([r for r, _ in parts]), return_inverse=True)
    values = torch.cat([v for _, v in parts])
    return rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, index, values)


def _set_gradients(layer: Sinks, rows: Tensor, values: Tensor) -> None:
    parameters = list(layer.parameters(recurse=False))
    for parameter, part in zip(parameters, values.split([p.shape[1] for p in parameters], dim=1), strict=True):
        parameter.grad = torch.sparse_coo_tensor(
            rows[None], part.contiguous(), parameter.shape, is_coalesced=True, check_invariants=False
        )


def _union(values: Tensor, group: Any) -> Tensor:
    """The sorted distinct values of all ranks."""
    sizes = [torch.empty(1, dtype=torch.int64, device=values.device) for _ in range(ranks(group))]
    dist.all_gather(sizes, torch.tensor([len(values)], device=values.device), group=group)
    longest = max(int(size) for size in sizes)
    padded = values.new_empty(longest)
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.unique(torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)]))
