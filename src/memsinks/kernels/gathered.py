"""The default kernel: fetch the active rows and compute only those.

Cost follows the number of active sinks, not the size of the pool. With row-sparse gradients that holds for the
backward pass too; a dense gradient has to be filled with the pool's worth of zeros.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memsinks.kernels.weights import SinkWeights

PADDING = 4
"""On a GPU, groups are padded and computed at once where that makes at most so many times as many tokens of them."""


def gathered(
    x: Tensor, weights: SinkWeights, rows: Tensor, scale: Tensor | None, counts: tuple[int, ...], *, sparse: bool
) -> Tensor:
    """Output of the active sinks for tokens sorted by group.

    Args:
        x: ``[n, hidden]``, group after group.
        weights: the layer's pool.
        rows: ``int64 [G, K]``, the sinks of each group.
        scale: ``[G, K]`` factors on the sinks' activations, or None.
        counts: tokens in each group; they add up to ``n``.
        sparse: give the parameters row-sparse (COO) gradients.

    Returns:
        ``[n, hidden]``, in autocast's type where autocast is on.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    scale = None if scale is None else scale.to(x.dtype)[:, None, :]
    # Once here instead of by autocast in each product: the products and their gradients read x in one type.
    x = x.to(dtype)

    def fetch(*pools: Tensor | None) -> Tensor | None:
        fetched = [F.embedding(rows, pool, sparse=sparse).to(dtype) for pool in pools if pool is not None]
        return torch.cat(fetched, dim=1) if fetched else None

    # Gate and up as one matrix: half the products, and half the passes over x and its gradient.
    into, bias, down = fetch(weights.gate, weights.up), fetch(weights.gate_bias, weights.up_bias), fetch(weights.down)
    assert into is not None
    assert down is not None
    active = _Active(into, None if bias is None else bias.mT, down, scale, weights.act, weights.gate is not None)
    if len(set(counts)) <= 1:
        x_GTH = x.view(len(counts), -1, x.shape[-1]) if counts else x.view(0, 1, x.shape[-1])
        return _at_once(x_GTH, active).flatten(0, 1)
    if device != "cpu" and len(counts) * max(counts) <= PADDING * len(x):
        return _padded(x, active, counts)
    return _by_group(x, active, counts)


class _Active(NamedTuple):
    """The rows that are on, fetched: K for each of G groups.

    Attributes:
        into: ``[G, K, hidden]``, or the gate's and the projection's behind each other, ``[G, 2K, hidden]``.
        bias: ``[G, 1, K]`` or ``[G, 1, 2K]``, or None.
        down: ``[G, K, hidden]``.
        scale: ``[G, 1, K]``, or None.
        act: the activation function.
        gated: whether there is a gate.
    """

    into: Tensor
    bias: Tensor | None
    down: Tensor
    scale: Tensor | None
    act: Callable[[Tensor], Tensor]
    gated: bool


def _at_once(x_GTH: Tensor, active: _Active) -> Tensor:
    """Groups of one length."""
    into = torch.bmm(x_GTH, active.into.mT)
    return torch.bmm(_hidden(into, active.bias, active.scale, active.act, active.gated), active.down)


def _by_group(x: Tensor, active: _Active, counts: tuple[int, ...]) -> Tensor:
    """Groups of different lengths, one at a time: nothing is padded."""
    # unbind, not an index a group: the gradient of each index would be a tensor of all groups.
    nothing = [None] * len(counts)
    outputs = [
        _hidden(x_TH @ into_KH.mT, bias_1K, scale_1K, active.act, active.gated) @ down_KH
        for x_TH, into_KH, down_KH, bias_1K, scale_1K in zip(
            x.split(counts),
            active.into.unbind(0),
            active.down.unbind(0),
            nothing if active.bias is None else active.bias.unbind(0),
            nothing if active.scale is None else active.scale.unbind(0),
            strict=True,
        )
    ]
    return torch.cat(outputs)


def _padded(x: Tensor, active: _Active, counts: tuple[int, ...]) -> Tensor:
    """Groups of different lengths at once, each padded to the longest: a few launches for all."""
    slots = _slots(counts, x.device)
    x_SH = x.new_zeros(len(counts) * max(counts), x.shape[-1]).index_copy(0, slots, x)
    return _at_once(x_SH.view(len(counts), -1, x.shape[-1]), active).flatten(0, 1).index_select(0, slots)


@lru_cache(maxsize=2)
def _slots(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each token is once its group is padded: ``int64 [n]``; all layers of a pass ask for the same."""
    longest = max(counts)
    places = [torch.arange(count) + group * longest for group, count in enumerate(counts)]
    return torch.cat(places).to(device, non_blocking=True)


def _hidden(
    into: Tensor, bias: Tensor | None, scale: Tensor | None, act: Callable[[Tensor], Tensor], gated: bool
) -> Tensor:
    """Scaled activations ``[..., K]`` of the projections ``[..., K]``, or ``[..., 2K]`` with the gate's first."""
    into = into if bias is None else into + bias
    if gated:
        gate, up = into.chunk(2, dim=-1)
        h = act(gate) * up
    else:
        h = act(into)
    return h if scale is None else h * scale
