"""Attach sinks to a Hugging Face causal language model, in place.

The model keeps its class name, its keys and its configuration. Its class becomes a subclass whose ``forward`` also
takes ``sequence_ids``, ``sink_mask`` and ``sink_frozen``, whose ``generate`` carries them along, and whose
``save_pretrained`` keeps sinks out of ``model.safetensors``.
"""

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from memsinks.errors import ConfigError, SequenceIdError, UnsupportedModelError
from memsinks.sinks.adapters import refuse_adapters, warn_of_adapters
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.config import SinkConfig, mlp_width
from memsinks.sinks.families import Site, family_of, sites
from memsinks.sinks.isolation import isolate_packed_documents
from memsinks.sinks.layer import Sinks, bind, unbind
from memsinks.sinks.modes import OFF, OWN
from memsinks.sinks.routing import Modes, Routing, check_ids, route
from memsinks.sinks.saving import SavedModel
from memsinks.sinks.selection import mix
from memsinks.sinks.sharding import localise

_TOKEN_KEYS = ("sequence_ids", "sink_mask", "sink_frozen")


class SinkModel(SavedModel):
    """What a model with sinks can do beyond its own class; mixed in by :func:`attach`."""

    sink_mode: Modes
    _adapter_seen = False

    def forward(
        self,
        *args: Any,
        sequence_ids: Tensor | None = None,
        sink_mask: Tensor | None = None,
        sink_frozen: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The base model's forward, with sinks.

        Args:
            sequence_ids: ``int64`` or ``uint64`` bit patterns, ``[batch]`` or ``[batch, tokens]``. Required in
                training; without them, evaluation runs with sinks off.
            sink_mask: ``bool`` of the same shape; False means no sinks for that token. Padding never gets any.
            sink_frozen: ``bool`` of the same shape; True means that the token's sinks are on but do not learn from it:
                shared weights get their gradient through them, and they get none. Default none are.
            args, kwargs: as the base model takes them.

        Raises:
            SequenceIdError: IDs are missing in training, or own no sinks under ``allocation="disjoint"``; or IDs or
                masks have the wrong shape or type.
        """
        if args:
            kwargs.update(zip(inspect.signature(self.forward).parameters, args, strict=False))
        inputs = kwargs.get("input_ids")
        inputs = kwargs.get("inputs_embeds") if inputs is None else inputs
        if inputs is not None:
            config = self.config
            isolate_packed_documents(kwargs, family_of(config), config._attn_implementation, self.dtype)
            routing = self._route(inputs, kwargs.get("attention_mask"), sequence_ids, sink_mask, sink_frozen)
            if routing is not None:
                kwargs["sink_routing"] = routing
        return super().forward(**kwargs)

    # Once a forward, and its results decide shapes.
    @torch.compiler.disable
    def _route(
        self,
        inputs: Tensor,
        attention_mask: Tensor | None,
        sequence_ids: Tensor | None,
        sink_mask: Tensor | None,
        sink_frozen: Tensor | None,
    ) -> Routing | None:
        batch, length = inputs.shape[:2]
        ids = check_ids(sequence_ids, batch, length)
        mask = check_ids(sink_mask, batch, length, "sink_mask")
        frozen = check_ids(sink_frozen, batch, length, "sink_frozen")
        if self.sink_mode == OFF:
            return None
        modes = self.sink_mode if isinstance(self.sink_mode, tuple) else (self.sink_mode,)
        if ids is None and self.training and OWN in modes:
            raise SequenceIdError(
                "a model with sinks needs sequence_ids in training (one per row or per token); pass them, or train "
                "inside memsinks.sinks_off(model)"
            )
        if mask is None:
            mask = torch.ones(batch, length, dtype=torch.bool, device=inputs.device)
        if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
            mask = mask & attention_mask[:, -length:].bool()
        first = next(sinks_of(self))
        routing = route(
            ids,
            mask,
            self.sink_mode,
            self.sink_config,
            self.config.num_hidden_layers,
            first.up.dtype,
            table=self.sink_allocation,
            frozen=frozen,
            strict=self.training,
        )
        learns = self.training and torch.is_grad_enabled() and not self._adapter_seen
        if learns and routing is not None and len(routing.tokens):
            self._adapter_seen = warn_of_adapters(self)
        if routing is None or first.shard is None:
            return routing
        return localise(routing, max((s.shard for s in sinks_of(self) if s.shard), key=lambda shard: shard.pool))

    def prepare_inputs_for_generation(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As the base model's; per-token IDs are cut to the tokens that this step computes."""
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        step = inputs.get("input_ids") if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
        for key in _TOKEN_KEYS:
            value = inputs.get(key)
            if isinstance(value, Tensor) and value.ndim == 2:
                inputs[key] = value[:, -step.shape[1] :]
        return inputs

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """As the base model's; a generated token takes the ID of the token before it."""
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        for key in _TOKEN_KEYS:
            value = model_kwargs.get(key)
            if isinstance(value, Tensor) and value.ndim == 2:
                model_kwargs[key] = torch.cat([value, value[:, -1:]], dim=1)
        return model_kwargs


def attach(model: Any, config: SinkConfig, *, table: AllocationTable | None = None) -> Any:
    """Add a pool of sinks to each MLP of ``model``, or to those of ``config.layers``, in place.

    Args:
        model: a stock transformers causal language model of a supported family.
        config: the pool; fractions are of the model's own MLP width.
        table: which rows belong to whom, of a pool that is to be filled with saved rows; default that of a new pool.

    Returns:
        ``model`` itself.

    Raises:
        UnsupportedModelError: the model's MLP cannot take sinks exactly.
        ConfigError: the model already has sinks, or the configuration does not fit.
    """
    if isinstance(model, SinkModel):
        raise ConfigError("this model has sinks already; call memsinks.detach(model) first to replace them")
    if not hasattr(model, "config") or not hasattr(model, "generate"):
        raise UnsupportedModelError(f"{type(model).__name__} is not a transformers causal language model")
    found = sites(model)
    config = config.resolve(mlp_width(model.config))
    table = AllocationTable.initial(config) if table is None else table
    for place, number in enumerate(config.layer_numbers(len(found))):
        bind(found[number], new_sinks(model.config, found[number], number, config, table.rows_in(place)))
    base: Any = type(model)
    model.__class__ = _sink_class(base)
    model.sink_config = config
    model.sink_allocation = table
    model.sink_mode = OWN
    return model


def detach(model: Any) -> Any:
    """Take the sinks off again, in place; what remains is the plain model."""
    if not isinstance(model, SinkModel):
        raise ConfigError("this model has no sinks")
    refuse_adapters(model)
    found = sites(model)
    model.__class__ = type(model).__bases__[1]
    for number in model.sink_config.layer_numbers(len(found)):
        unbind(found[number])
    for left in ("forward", "_original_forward", "_adapter_seen"):
        # accelerate wraps the bound forward in training; that one would still be the forward with sinks.
        model.__dict__.pop(left, None)
    del model.sink_config, model.sink_mode, model.sink_allocation
    return model


def new_sinks(model_config: Any, site: Site, layer: int, config: SinkConfig, rows: int, first: int = 0) -> Sinks:
    """Sinks with their initial values, which follow from the seed, the layer and where in the pool they will be.

    Args:
        model_config: of the model; a pretrained one's sinks start as ``config.init`` says.
        site: the layer's MLP.
        layer: number of the decoder layer.
        config: with resolved counts.
        rows: how many.
        first: the row of the pool that the first of them is, or will be.
    """
    place = config.layer_numbers(model_config.num_hidden_layers).index(layer)
    sinks = Sinks(site, layer, place, rows, model_config.hidden_size, config.kernel)
    if not sinks.up.is_meta:
        seed = mix(config.seed + mix(layer))
        generator = torch.Generator().manual_seed((mix(seed + first) if first else seed) >> 1)
        noop = config.init == "noop" or (config.init == "auto" and bool(model_config.name_or_path))
        sinks.initialise(_init_std(model_config), generator, noop)
    return sinks


def sinks_of(model: nn.Module) -> Iterator[Sinks]:
    """The sinks of each layer, in order; works through wrappers."""
    return (module for module in model.modules() if isinstance(module, Sinks))


@cache
def _sink_class(base: Any) -> type[SinkModel]:
    """Subclass of a causal LM with :class:`SinkModel` in front, under the base's own name."""
    model_class: Any = type(base.__name__, (SinkModel, base), {"__module__": base.__module__, "__doc__": base.__doc__})

    def signed_forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return SinkModel.forward(self, *args, **kwargs)

    forward: Any = signed_forward

    # Trainer keeps batch columns, and generate accepts keywords, by this signature.
    base_signature = inspect.signature(base.forward)
    parameters = list(base_signature.parameters.values())
    extra = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None) for key in _TOKEN_KEYS]
    tail = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    head = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    forward.__signature__ = base_signature.replace(parameters=[*head, *extra, *tail])
    forward.__doc__ = SinkModel.forward.__doc__
    model_class.forward = forward
    return model_class


def _init_std(model_config: Any) -> float:
    for key in ("initializer_range", "init_std"):
        if getattr(model_config, key, None):
            return float(getattr(model_config, key))
    return 0.02
