"""Give rows of a pool to owners, and add rows to a pool."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from memsinks.errors import ConfigError
from memsinks.sinks.attach import new_sinks, sinks_of
from memsinks.sinks.families import sites
from memsinks.sinks.modes import host_of


def register(model: nn.Module, ids: Iterable[int] | np.ndarray) -> None:
    """Give each of ``ids`` rows of its own: ``active`` rows of the owned part of the pool, the same in every layer.

    IDs get free rows in the order given; those that own rows already keep them. Register an ID before it is trained:
    under ``allocation="hybrid"`` it leaves the shared rows that it used until then, under ``"disjoint"`` it has no
    sinks before. Nothing changes if an error is raised.

    Args:
        model: with sinks attached, or a wrapper around it.
        ids: sequence IDs; a NumPy array of ``uint64`` is taken as it is.

    Raises:
        ConfigError: the model has no sinks, nothing can be owned (``allocation="hashed"``), or too few rows are free.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """
    host = host_of(model)
    host.sink_allocation = host.sink_allocation.with_owners(ids, int(host.sink_config.active))


def grow(model: nn.Module, rows: int, *, trained: Iterable[int] | np.ndarray) -> None:
    """Add ``rows`` sinks to the end of each layer's pool.

    Under ``allocation="disjoint"`` the new rows are free for further owners. Otherwise IDs choose from the new rows
    alone, but for owners and for IDs in ``trained`` (now or in an earlier call), which keep exactly the rows they have:
    the model's output for them in mode own stays the same, bit for bit. Leave no trained ID out, or its memory is not
    found again.

    Old rows keep their place, and parameters their identity, with gradients padded by zeros;
    :class:`memsinks.SinkAdamW` goes on with old rows' state as it was. Grow before the model is wrapped: DDP keeps
    buckets of the old size. New rows start as :func:`attach` would start them, from the pool's seed.

    Args:
        model: with sinks attached, or a wrapper around it.
        rows: a multiple of the block, or of ``active`` under ``disjoint``, and at least ``active``.
        trained: sequence IDs of the text trained so far; a NumPy array of ``uint64`` is taken as it is.

    Raises:
        ConfigError: the model has no sinks, ``rows`` does not fit, or the pool is spread over ranks.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """
    host = host_of(model)
    config, table = host.sink_config, host.sink_allocation
    if any(getattr(sinks, "shard", None) is not None for sinks in sinks_of(host)):
        raise ConfigError("these sinks are spread over ranks; grow the pool before they are spread")
    grown = table.grown(rows, config, trained)
    found = sites(host)
    for sinks in list(sinks_of(host)):
        number = sinks.layer_index
        new = dict(new_sinks(host.config, found[number], number, config, rows, first=table.pool).named_parameters())
        for name, parameter in sinks.named_parameters(recurse=False):
            _append(parameter, new[name].detach())
    host.sink_allocation = grown
    host.sink_config = replace(
        config, pool=grown.pool, owned=grown.pool if config.allocation == "disjoint" else config.owned
    )


def _append(parameter: nn.Parameter, new: Tensor) -> None:
    """Append rows in place, so that whoever holds the parameter, such as an optimiser, still holds the right one."""
    grad, parameter.grad = parameter.grad, None
    parameter.data = torch.cat([parameter.data, new])
    if grad is None:
        return
    if grad.is_sparse:
        parameter.grad = torch.sparse_coo_tensor(
            grad._indices(), grad._values(), parameter.shape, is_coalesced=grad.is_coalesced(), check_invariants=False
        )
    else:
        parameter.grad = torch.cat([grad, grad.new_zeros(new.shape)])
