"""Row-sparse gradients of sinks, each row once.

The gradient that passes leave names a row as often as their batches selected it. ``Tensor.coalesce`` sums those up, but
on a GPU the program waits in it, for each parameter of each layer; here it waits once for all of them.
"""

from collections.abc import Iterable

import torch
from torch.nn import functional as F

from memsinks.sinks.layer import Sinks


def sum_rows(layers: Iterable[Sinks]) -> None:
    """Make the rows of row-sparse gradients distinct and sorted, in place; dense gradients stay as they are.

    What belongs to a row is added up in the order of its selection, so that sums have the same bits every time.
    """
    found = [
        (parameter, grad)
        for layer in layers
        for parameter in layer.parameters(recurse=False)
        if (grad := parameter.grad) is not None and grad.is_sparse and not grad.is_coalesced()
    ]
    if not found:
        return
    # A code is a row of one parameter among those of all. A layer's parameters have the same rows, but may not name
    # them as often: autograd merges some gradients when it adds those of several passes.
    starts, codes = [0], []
    for parameter, grad in found:
        codes.append(grad._indices()[0] + starts[-1])
        starts.append(starts[-1] + len(parameter))
    sorted_codes, order = torch.sort(torch.cat(codes), stable=True)
    distinct, times = torch.unique_consecutive(sorted_codes, return_counts=True)
    begins = times.cumsum(0) - times
    bounds = torch.searchsorted(distinct, torch.tensor(starts, device=distinct.device)).tolist()
    before = 0
    for (parameter, grad), start, first, last in zip(found, starts, bounds, bounds[1:], strict=False):
        values_nW = grad._values()
        after = before + len(values_nW)
        sums_UW = F.embedding_bag(order[before:after] - before, values_nW, begins[first:last] - before, mode="sum")
        parameter.grad = torch.sparse_coo_tensor(
            distinct[None, first:last] - start, sums_UW, parameter.shape, is_coalesced=True, check_invariants=False
        )
        before = after
