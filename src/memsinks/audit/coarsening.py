"""Coarser weights: round-to-nearest quantisation, and pruning of the smallest weights, on a copy.

Unlearning that moves weights by little may be undone by rounding, which moves them back to where they were (Zhang et
al. 2025, "Catastrophic failure of LLM unlearning via quantization", arXiv 2410.16454). Quantisation here is fake:
weights take the values that the integers stand for and are computed with as before, so that it shows what such a model
would say, not how fast it would say it.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from memsinks.errors import ConfigError


def quantised(model: Any, bits: int, *, group: int | None = None) -> Any:
    """A copy whose weight matrices are rounded to signed integers of ``bits`` bits times a scale.

    The scale is symmetric: the largest magnitude of its group becomes the largest integer. Embeddings, and the output
    projection where it is tied to them, are rounded too; norms and biases are not.

    Args:
        model: any model, with sinks or without; it is not changed.
        bits: 2 to 8.
        group: neighbouring inputs of an output that share a scale; default all inputs of an output (per channel).

    Raises:
        ConfigError: an impossible number of bits or group.
    """
    if not 2 <= bits <= 8 or (group is not None and group < 1):
        raise ConfigError(f"cannot quantise to {bits} bits in groups of {group}: give 2 to 8 bits and a group of 1 on")
    return _changed(model, lambda weight: round_to_nearest(weight, bits, group))


def pruned(model: Any, fraction: float) -> Any:
    """A copy in which the smallest weights of each matrix are zero; embeddings are left alone.

    Args:
        model: any model, with sinks or without; it is not changed.
        fraction: of the weights of each matrix, from 0 to below 1.

    Raises:
        ConfigError: an impossible fraction.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"cannot prune the fraction {fraction} of the weights: it must be at least 0 and below 1")
    return _changed(model, lambda weight: without_smallest(weight, fraction), embeddings=False)


def round_to_nearest(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """The values that rounding leaves of a matrix ``[outputs, inputs]``; see :func:`quantised`."""
    most = 2 ** (bits - 1) - 1
    width = weight.shape[1] if group is None else group
    parts = []
    for part in weight.float().split(width, dim=1):
        scale = part.abs().amax(dim=1, keepdim=True) / most
        # A row of zeros has no scale, and stays as it is.
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        parts.append((part / scale).round().clamp(-most, most) * scale)
    return torch.cat(parts, dim=1).to(weight.dtype)


def without_smallest(weight: Tensor, fraction: float) -> Tensor:
    """A matrix with the ``floor(fraction * size)`` weights of least magnitude set to zero."""
    count = int(fraction * weight.numel())
    smallest = weight.abs().flatten().argsort(stable=True)[:count]
    left = weight.flatten().clone()
    left[smallest] = 0
    return left.view_as(weight)


def _changed(model: Any, change: Callable[[Tensor], Tensor], *, embeddings: bool = True) -> Any:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for weight, transposed in _matrices(changed, embeddings):
            weight.copy_(change(weight.T).T if transposed else change(weight))
    return changed


def _matrices(model: nn.Module, embeddings: bool) -> Iterator[tuple[Tensor, bool]]:
    """Each weight matrix once, and whether it is stored ``[inputs, outputs]``.

    GPT-2's Conv1D is, and so is the ``down`` of sinks, whose outputs are columns. Matrices without weights, as sinks
    are once all were removed, are left out.
    """
    seen: set[int] = set()
    if not embeddings:
        seen = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim == 2 and weight.numel() and id(weight) not in seen:
                seen.add(id(weight))
                yield weight, type(module).__name__ == "Conv1D" or name == "down"
