"""The oracle: compute every sink of the pool and mask the idle ones."""

import torch
from torch import Tensor
from torch.nn import functional as F

from memsinks.kernels.weights import SinkWeights


def dense(
    x: Tensor, weights: SinkWeights, rows: Tensor, scale: Tensor | None, counts: tuple[int, ...], *, sparse: bool
) -> Tensor:
    """Mask-and-multiply; same arguments and result as :func:`memsinks.kernels.gathered.gathered`."""
    if sparse:
        raise ValueError("the dense kernel computes every row, so its gradients cannot be row-sparse")
    factors = torch.ones_like(rows, dtype=x.dtype) if scale is None else scale.to(x.dtype)
    # Padding of smaller sets names row 0 with factor 0: accumulate, so that it cannot switch a real row 0 off.
    mask_GP = x.new_zeros(len(counts), weights.up.shape[0]).scatter_add(1, rows, factors)
    mask_NP = mask_GP.repeat_interleave(torch.tensor(counts, dtype=torch.int64, device=x.device), dim=0)
    h = F.linear(x, weights.up, None if weights.up_bias is None else weights.up_bias[:, 0])
    if weights.gate is None:
        h = weights.act(h)
    else:
        h = weights.act(F.linear(x, weights.gate, None if weights.gate_bias is None else weights.gate_bias[:, 0])) * h
    return (h * mask_NP) @ weights.down
