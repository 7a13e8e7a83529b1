"""The default kernel: fetch the active rows and compute only those.

Cost follows the number of active sinks, not the size of the pool. With row-sparse gradients that holds for the
backward pass too; a dense gradient has to be filled with the pool's worth of zeros.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memsinks.kernels.weights import SinkWeights


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
        ``[n, hidden]``.
    """
    up, down, gate, up_bias, gate_bias = (
        None if w is None else F.embedding(rows, w, sparse=sparse)
        for w in (weights.up, weights.down, weights.gate, weights.up_bias, weights.gate_bias)
    )
    assert up is not None
    assert down is not None
    factors = None if scale is None else scale.to(x.dtype)[:, None, :]
    if len(set(counts)) <= 1:
        biases = tuple(None if b is None else b.transpose(1, 2) for b in (up_bias, gate_bias))
        x_GTH = x.view(len(counts), -1, x.shape[-1]) if counts else x.view(0, 1, x.shape[-1])
        h = _hidden(torch.bmm, x_GTH, up.mT, None if gate is None else gate.mT, biases, weights.act)
        h = h if factors is None else h * factors
        return torch.bmm(h, down).flatten(0, 1)

    # Groups of different lengths, one at a time: nothing is padded.
    # unbind, not an index a group: the gradient of each index would be a tensor of all groups.
    parts: list[Any] = [
        [None] * len(counts) if t is None else t.unbind(0) for t in (up, down, gate, up_bias, gate_bias, factors)
    ]
    outputs = []
    for x_TH, up_KH, down_KH, gate_KH, *biases_K1, factor in zip(x.split(counts), *parts, strict=True):
        biases_1K = tuple(None if b is None else b.mT for b in biases_K1)
        h = _hidden(torch.mm, x_TH, up_KH.mT, None if gate_KH is None else gate_KH.mT, biases_1K, weights.act)
        outputs.append((h if factor is None else h * factor) @ down_KH)
    return torch.cat(outputs)


def _hidden(
    matmul: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    up: Tensor,
    gate: Tensor | None,
    biases: tuple[Tensor | None, ...],
    act: Callable[[Tensor], Tensor],
) -> Tensor:
    up_bias, gate_bias = biases
    h = matmul(x, up)
    h = h if up_bias is None else h + up_bias
    if gate is None:
        return act(h)
    g = matmul(x, gate)
    return act(g if gate_bias is None else g + gate_bias) * h
