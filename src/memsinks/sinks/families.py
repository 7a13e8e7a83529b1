"""Model families whose MLP takes sinks exactly.

An MLP's output is a sum over hidden units, so sinks join it as further terms of that sum: the sinks read what the up
projection reads, and their output is added to what the down projection gives, before anything that follows it
(GPT-2's dropout, the norm after Gemma's MLP). A family is listed once a physically widened stock model has shown the
same values and gradients (``tests/integration/test_families.py``).
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from memsinks.errors import UnsupportedModelError


@dataclass(frozen=True)
class Family:
    """Where one family keeps its MLPs.

    Attributes:
        layers: path from the causal LM to its list of decoder layers.
        mlp: path from a decoder layer to the module that holds the projections; empty if the layer does itself.
        up, down, gate: names of the projections; ``gate`` is None for plain MLPs.
        act: name of the activation function.
        width: the configuration's key for the number of hidden units.
        transposed: projections are stored ``[in, out]`` (GPT-2's Conv1D).
        packs_by_position: the model isolates packed documents by their ``position_ids``.
    """

    layers: str = "model.layers"
    mlp: str = "mlp"
    up: str = "up_proj"
    down: str = "down_proj"
    gate: str | None = "gate_proj"
    act: str = "act_fn"
    width: str = "intermediate_size"
    transposed: bool = False
    packs_by_position: bool = True


_GATED = Family()

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "smollm3"), _GATED
    ),
    "gpt2": Family(
        layers="transformer.h", up="c_fc", down="c_proj", gate=None, act="act", width="n_inner", transposed=True
    ),
    "gpt_neox": Family(layers="gpt_neox.layers", up="dense_h_to_4h", down="dense_4h_to_h", gate=None, act="act"),
    "opt": Family(
        layers="model.decoder.layers",
        mlp="",
        up="fc1",
        down="fc2",
        gate=None,
        act="activation_fn",
        width="ffn_dim",
        packs_by_position=False,
    ),
}
"""Supported families by ``config.model_type``."""


@dataclass(frozen=True)
class Site:
    """One decoder layer's MLP: the layer, the module that holds the projections, and the projections."""

    layer: nn.Module
    owner: nn.Module
    up: Any
    down: Any
    gate: Any
    act: Any


def family_of(model_config: Any) -> Family:
    """The family of a transformers configuration.

    Raises:
        UnsupportedModelError: the family is not listed; the message says why where the reason is known.
    """
    model_type = getattr(model_config, "model_type", type(model_config).__name__)
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    experts = any(getattr(model_config, key, None) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
    reason = (
        "its MLPs are mixtures of experts, which choose their own hidden units"
        if experts
        else "its MLP has not been checked against a physically widened model"
    )
    raise UnsupportedModelError(
        f"model type {model_type!r} cannot take sinks: {reason}. Supported: {', '.join(sorted(FAMILIES))}."
    )


def width_key(model_config: Any) -> str:
    """The configuration's key for the number of hidden units in an MLP."""
    return family_of(model_config).width


def sites(model: Any) -> list[Site]:
    """The MLP of every decoder layer, in order.

    Raises:
        UnsupportedModelError: a module is not the one that transformers ships for this family.
    """
    family = family_of(model.config)
    try:
        layers = model.get_submodule(family.layers)
        return [_site(layer, family) for layer in layers]
    except AttributeError as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} is not a stock causal language model of type {model.config.model_type!r}: {error}"
        ) from error


def _site(layer: nn.Module, family: Family) -> Site:
    owner = layer.get_submodule(family.mlp)
    for module in (layer, owner):
        if not type(module).__module__.startswith("transformers.models.") or "forward" in vars(module):
            raise UnsupportedModelError(
                f"{type(module).__name__} ({type(module).__module__}) replaces the stock module; fused or patched "
                "MLPs are refused because sinks in them have not been shown to be exact"
            )
    for name in filter(None, (family.up, family.down, family.gate)):
        projection = type(owner.get_submodule(name))
        if not projection.__module__.startswith(("torch.nn.", "transformers.")):
            raise UnsupportedModelError(
                f"{name} is {projection.__module__}.{projection.__name__}, not the stock module; if PEFT put it there, "
                "call merge_and_unload() first, or attach sinks before adding the adapter"
            )
    gate = None if family.gate is None else owner.get_submodule(family.gate)
    return Site(
        layer, owner, owner.get_submodule(family.up), owner.get_submodule(family.down), gate, getattr(owner, family.act)
    )
