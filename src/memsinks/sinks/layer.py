"""The sinks of one decoder layer, and the classes that let them join its MLP.

Three stock modules of a layer get subclasses of their own class, with the same name (accelerate and FSDP match
``_no_split_modules`` by name):

- the decoder layer takes ``sink_routing`` and holds it for the length of its own forward. Gradient checkpointing runs
  that forward again in the backward pass, so the recomputation sees the same routing;
- the up projection notes what the MLP reads;
- the down projection adds the sinks' output to its own.

A layer without sinks stays as it is. It hands the routing, which it does not know, on to its attention function, which
ignores it.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from memsinks.errors import UnsupportedModelError
from memsinks.kernels import KERNELS, SinkWeights
from memsinks.sinks.families import Site
from memsinks.sinks.routing import Routing
from memsinks.sinks.sharding import Requests, RowShard, fetch


class Sinks(nn.Module):
    """One layer's pool of sinks.

    Parameters ``up``, ``down`` and, in gated MLPs, ``gate`` are ``[pool, hidden]``; ``up_bias`` and ``gate_bias`` are
    ``[pool, 1]`` where the base has such biases. Row i of each belongs to sink i.

    Args:
        site: the layer's MLP.
        layer_index: number of the decoder layer.
        place: number of the layer among those with sinks, by which a routing has its rows.
        pool: rows.
        hidden: width of the model.
        kernel: name of the kernel.
    """

    act: Callable[[Tensor], Tensor]
    gate: nn.Parameter | None
    up_bias: nn.Parameter | None
    gate_bias: nn.Parameter | None

    def __init__(self, site: Site, layer_index: int, place: int, pool: int, hidden: int, kernel: str) -> None:
        super().__init__()
        self.layer_index, self.place = layer_index, place
        self.kernel = kernel
        # Shared with the base MLP, so not registered a second time.
        object.__setattr__(self, "act", site.act)
        like = site.down.weight

        def rows(width: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(pool, width, dtype=like.dtype, device=like.device))

        self.up, self.down = rows(hidden), rows(hidden)
        self.gate = None if site.gate is None else rows(hidden)
        self.up_bias = None if site.up.bias is None else rows(1)
        self.gate_bias = None if site.gate is None or site.gate.bias is None else rows(1)
        self.row_sparse = False
        self.touched: list[Tensor] | None = None
        """Rows selected in training passes since the optimiser last looked; None where nobody asks."""
        self.shard: RowShard | None = None
        """Which rows of the pool are here; None where all of them are."""
        self.pending: list[tuple[Tensor, Tensor]] = []
        """With a shard: rows of the pool used in backward passes, and their gradients, for the optimiser to fetch."""
        self.routing: Routing | None = None
        self.inputs: Tensor | None = None
        self.joined = False
        """Whether this pass of the layer added the sinks' output; a pass that did not is an error."""

    def initialise(self, std: float, generator: torch.Generator, noop: bool) -> None:
        """Draw rows from N(0, std²); with ``noop`` the output rows stay zero, so that the sinks change nothing."""
        with torch.no_grad():
            for weight in (self.up, self.gate, None if noop else self.down):
                if weight is not None:
                    values = torch.empty(weight.shape, dtype=torch.float32).normal_(0, std, generator=generator)
                    weight.copy_(values)

    def weights(self) -> SinkWeights:
        """The parameters, as kernels take them."""
        return SinkWeights(self.up, self.down, self.gate, self.up_bias, self.gate_bias, self.act)

    # Shapes here change with every batch, and row-sparse gradients have no compiled form.
    @torch.compiler.disable
    def add_to(self, output: Tensor) -> Tensor:
        """Add the active sinks' output to the down projection's."""
        routing = self.routing
        if routing is None or self.inputs is None:
            return output
        self.joined = True
        if not (len(self.up) if self.shard is None else self.shard.pool):
            return output  # all of this layer's sinks were removed
        weights = self.weights() if routing.requests is None else self._fetched(routing.requests)
        output = self._add(output, routing, weights, self.touched)
        if routing.frozen is None:
            return output
        constant = SinkWeights._make(w.detach() if isinstance(w, Tensor) else w for w in weights)
        return self._add(output, routing.frozen, constant, touched=None)

    def _fetched(self, requests: list[Requests]) -> SinkWeights:
        """The rows that this batch wants, from the ranks that own them."""
        assert self.inputs is not None
        device = self.inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.inputs.dtype
        rows = fetch(self, requests[self.place], dtype)
        return SinkWeights(
            rows["up"], rows["down"], rows.get("gate"), rows.get("up_bias"), rows.get("gate_bias"), self.act
        )

    def _add(self, output: Tensor, routing: Routing, weights: SinkWeights, touched: list[Tensor] | None) -> Tensor:
        x = self.inputs
        assert x is not None
        x_NH = x.reshape(-1, x.shape[-1])
        rows = routing.rows[self.place]
        y = KERNELS[self.kernel](
            x_NH if routing.whole else x_NH[routing.tokens],
            weights,
            rows,
            None if routing.scale is None else routing.scale[self.place],
            routing.counts,
            sparse=self.row_sparse and self.shard is None,
        ).to(output.dtype)
        if touched is not None and y.requires_grad:
            # In backward, so that a pass without one touches nothing.
            y.register_hook(lambda _: touched.append(rows.flatten()))
        if routing.whole:
            return output + y.view(output.shape)
        # Tokens without sinks keep their bits: nothing, not even zero, is added to them.
        return output.reshape(-1, output.shape[-1]).index_add(0, routing.tokens, y).view(output.shape)


@cache
def bound_layer(base: Any) -> type[nn.Module]:
    """Subclass of a decoder layer that holds the routing while its forward runs."""

    class BoundLayer(base):
        base_forward = staticmethod(base.forward)

        def forward(self, *args: Any, sink_routing: Routing | None = None, **kwargs: Any) -> Any:
            sinks = self._sinks
            sinks.routing, sinks.joined = sink_routing, False
            try:
                output = self.base_forward(self, *args, **kwargs)
                if sink_routing is not None and not sinks.joined:
                    raise UnsupportedModelError(
                        f"the MLP of layer {sinks.layer_index} ran without its sinks: something stands in for it or "
                        "for its projections (a copy, as PEFT's modules_to_save makes). LoRA on them is fine; leave "
                        "them out of modules_to_save, and attach sinks before adding an adapter"
                    )
                return output
            finally:
                sinks.routing = sinks.inputs = None

    return _renamed(BoundLayer, base)


@cache
def bound_up(base: Any) -> type[nn.Module]:
    """Subclass of a projection that notes its input."""

    class BoundUp(base):
        def forward(self, x: Tensor) -> Tensor:
            self._sinks.inputs = x
            return super().forward(x)

    return _renamed(BoundUp, base)


@cache
def bound_down(base: Any) -> type[nn.Module]:
    """Subclass of a projection that adds the sinks' output to its own."""

    class BoundDown(base):
        def forward(self, x: Tensor) -> Tensor:
            return self._sinks.add_to(super().forward(x))

    return _renamed(BoundDown, base)


def bind(site: Site, sinks: Sinks) -> None:
    """Make the site's modules use ``sinks``, which becomes the submodule ``sinks`` of the MLP."""
    site.owner.add_module("sinks", sinks)
    binders: tuple[tuple[nn.Module, Any], ...] = (
        (site.layer, bound_layer),
        (site.up, bound_up),
        (site.down, bound_down),
    )
    for module, subclass in binders:
        # Past nn.Module's bookkeeping: a second registration would name the parameters twice.
        object.__setattr__(module, "_sinks", sinks)
        module.__class__ = subclass(type(module))


def is_bound(layer: nn.Module) -> bool:
    """Whether a decoder layer has sinks."""
    return "_sinks" in vars(layer)


def unbind(site: Site) -> None:
    """Undo :func:`bind`."""
    del site.owner.sinks
    for module in (site.layer, site.up, site.down):
        object.__delattr__(module, "_sinks")
        module.__class__ = type(module).__bases__[0]


def _renamed(subclass: type, base: type) -> type:
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(subclass, name, getattr(base, name))
    return subclass
