"""Sinks spread over ranks by rows, for models too large to be whole on each device.

Row r of every pool lies on rank ``r % world``, at its position ``r // world``. A forward pass fetches the rows that its
batch selected from their owners; the gradient of fetched rows stays with the rank that computed it until the optimiser
asks (:mod:`memsinks.training.exchange`), after accumulation. Ranks agree on the requests of all layers once, when the
batch is routed, so that a layer only has the values to wait for.

Shape letters: L layers, R rows wanted by this rank in a layer (each once), S rows that this rank serves, W width of a
row over all of a layer's parameters.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from memsinks.errors import ConfigError

if TYPE_CHECKING:
    from memsinks.sinks.layer import Sinks
    from memsinks.sinks.routing import Routing


class RowShard(NamedTuple):
    """One rank's part of a pool: the rows ``rank``, ``rank + world``, ... of ``pool``."""

    rank: int
    world: int
    pool: int
    group: Any

    @property
    def stride(self) -> int:
        """Rows on the rank that has most."""
        return -(-self.pool // self.world)


class Requests(NamedTuple):
    """Which rows travel between which ranks in a layer.

    Attributes:
        wanted: ``int64 [R]``, rows of the pool, sorted by owner and then by row.
        served: ``int64 [S]``, positions in this rank's shard, sorted by the rank that wants them.
        wanted_from: rows that come from each rank; adds up to R.
        served_to: rows that go to each rank; adds up to S.
        learning: positions among ``wanted`` of the rows that learn; None for all.
    """

    wanted: Tensor
    served: Tensor
    wanted_from: list[int]
    served_to: list[int]
    learning: Tensor | None = None


def shard_sinks(sinks: "list[Sinks]", group: Any = None) -> None:
    """Keep only this rank's rows of each pool, in place; values must be the same on all ranks.

    Args:
        sinks: of all layers.
        group: process group; default all ranks.

    Raises:
        ConfigError: there are fewer sinks than ranks.
    """
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    for layer in sinks:
        pool = layer.up.shape[0]
        if pool < world:
            raise ConfigError(f"a pool of {pool} sinks cannot be spread over {world} ranks; use at least {world} sinks")
        layer.shard = RowShard(rank, world, pool, group)
        for name, parameter in layer.named_parameters(recurse=False):
            rows = nn.Parameter(parameter.detach()[rank::world].clone(), requires_grad=parameter.requires_grad)
            layer.register_parameter(name, rows)


def gather_rows(local: Tensor, shard: RowShard) -> Tensor:
    """The whole ``[pool, ...]`` from every rank's part of it; all ranks take part and get it."""
    padded = local.new_zeros(shard.stride, *local.shape[1:])
    padded[: len(local)] = local
    parts = [torch.empty_like(padded) for _ in range(shard.world)]
    dist.all_gather(parts, padded, group=shard.group)
    return torch.stack(parts, dim=1).flatten(0, 1)[: shard.pool]


def request_rows(rows: list[Tensor], shard: RowShard) -> list[Requests]:
    """Tell the owners which rows this rank wants; all ranks take part.

    Args:
        rows: rows of the pool for each of the L layers, in any order and as often as they like.
        shard: this rank's part of the largest pool: layers differ if rows were removed.

    Returns:
        One entry a layer.
    """
    layers, world, stride = len(rows), shard.world, shard.stride
    device = rows[0].device
    # One number for (layer, owner, position): sorting it groups what goes to the same owner in the same layer.
    codes = torch.cat(
        [(layer * world + r % world) * stride + r // world for layer, r in enumerate(r.flatten() for r in rows)]
    )
    codes = torch.unique(codes)
    counts_LO = torch.bincount(codes // stride, minlength=layers * world).view(layers, world)
    asked_OL = counts_LO.t().contiguous()
    received_OL = torch.empty_like(asked_OL)
    dist.all_to_all_single(received_OL, asked_OL, group=shard.group)
    wanted_LO, served_LO = counts_LO.tolist(), received_OL.t().tolist()

    positions = list((codes % stride).split([n for by_owner in wanted_LO for n in by_owner]))
    by_owner = [positions[layer * world + owner] for owner in range(world) for layer in range(layers)]
    served = codes.new_empty(sum(map(sum, served_LO)))
    dist.all_to_all_single(
        served,
        torch.cat(by_owner),
        [sum(served_LO[layer][o] for layer in range(layers)) for o in range(world)],
        [sum(wanted_LO[layer][o] for layer in range(layers)) for o in range(world)],
        group=shard.group,
    )
    parts = list(served.split([served_LO[layer][o] for o in range(world) for layer in range(layers)]))
    owners = torch.arange(world, device=device)
    requests = []
    for layer in range(layers):
        own = positions[layer * world : (layer + 1) * world]
        owner_R = owners.repeat_interleave(torch.tensor(wanted_LO[layer], device=device))
        requests.append(
            Requests(
                wanted=torch.cat(own) * world + owner_R,
                served=torch.cat(parts[layer::layers]),
                wanted_from=wanted_LO[layer],
                served_to=served_LO[layer],
            )
        )
    return requests


def fetch(sinks: "Sinks", request: Requests, dtype: torch.dtype) -> dict[str, Tensor]:
    """The wanted rows of each parameter, ``[R, ...]`` in the order of ``request.wanted``; all ranks take part.

    Args:
        sinks: of one layer, sharded.
        request: of that layer.
        dtype: in which values travel; the kernel computes in it.
    """
    names, shards = zip(*sinks.named_parameters(recurse=False), strict=True)
    values = _Fetch.apply(sinks, request, dtype, *shards)
    return dict(zip(names, values.split([s.shape[1] for s in shards], dim=1), strict=True))


def send_back(values: Tensor, request: Requests, shard: RowShard) -> Tensor:
    """Values of wanted rows ``[R, W]`` to their owners: ``[S, W]`` in the order of ``request.served``."""
    out = values.new_empty(len(request.served), values.shape[1])
    dist.all_to_all_single(out, values.contiguous(), request.served_to, request.wanted_from, group=shard.group)
    return out


def localise(routing: "Routing", shard: RowShard) -> "Routing":
    """Request all rows of a routing; its ``rows`` become positions among the wanted ones. All ranks take part.

    Rows of frozen tokens come by the same requests, so that ranks agree on what travels whichever of them has any.
    """
    parts = [routing] if routing.frozen is None else [routing, routing.frozen]
    layers = len(routing.rows)
    requests = request_rows([torch.cat([part.rows[i].flatten() for part in parts]) for i in range(layers)], shard)
    local = [torch.empty_like(part.rows) for part in parts]
    for i, request in enumerate(requests):
        order = torch.argsort(request.wanted)
        for part, positions in zip(parts, local, strict=True):
            positions[i] = order[torch.searchsorted(request.wanted[order], part.rows[i])]
        requests[i] = request._replace(learning=torch.unique(local[0][i]))
    frozen = None if routing.frozen is None else routing.frozen._replace(rows=local[1])
    return routing._replace(rows=local[0], frozen=frozen, requests=requests)


class _Fetch(torch.autograd.Function):
    """Values from their owners; in the backward pass the gradient is kept, not sent."""

    @staticmethod
    def forward(ctx: Any, sinks: "Sinks", request: Requests, dtype: torch.dtype, *shards: Tensor) -> Tensor:
        ctx.sinks, ctx.request, ctx.inputs = sinks, request, 3 + len(shards)
        serve = torch.cat([shard[request.served].to(dtype) for shard in shards], dim=1)
        out = serve.new_empty(len(request.wanted), serve.shape[1])
        assert sinks.shard is not None
        dist.all_to_all_single(out, serve, request.wanted_from, request.served_to, group=sinks.shard.group)
        # Full precision again, so that the gradients of a row's several uses are added up in it.
        return out.to(shards[0].dtype)

    @staticmethod
    # The signature is autograd's: one gradient for each argument of forward.
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        wanted, learning = ctx.request.wanted, ctx.request.learning
        ctx.sinks.pending.append((wanted, grad) if learning is None else (wanted[learning], grad[learning]))
        return (None,) * ctx.inputs
