"""PEFT adapters in a model with sinks: refused where the plain model is wanted, warned of where they learn."""

import warnings
from collections.abc import Iterator

import torch
from torch import nn

from memsinks.errors import ConfigError, IsolationWarning


def refuse_adapters(model: nn.Module) -> None:
    """Refuse what would take a model with an adapter in it for a plain one.

    Raises:
        ConfigError: PEFT put an adapter into the model.
    """
    if any(".base_layer." in name or ".lora_" in name for name, _ in model.named_parameters()):
        raise ConfigError(
            "this model has a PEFT adapter in it, so it is not the plain model; call merge_and_unload() on the PEFT "
            "wrapper first, or unload() to drop the adapter"
        )


def warn_of_adapters(model: nn.Module) -> bool:
    """Warn if an adapter in the model learns; returns whether the model has an adapter at all, learning or not."""
    # PEFT leaves its configuration on the model that it wraps; looking for that costs nothing.
    if not hasattr(model, "peft_config"):
        return False
    if any(weight.requires_grad for weight in _adapter_weights(model)):
        warnings.warn(
            "an adapter learns from text that has sinks on. What it learns is not isolated by sequence ID, so removing "
            "sinks does not remove it: train the adapter on ungoverned text (sink_mask false, or inside "
            "memsinks.sinks_off) or be ready to train it anew after a removal, or let only the sinks learn",
            IsolationWarning,
            stacklevel=2,
        )
    return True


def _adapter_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of PEFT's layers that are not the base model's: adapters, and trainable copies of modules."""
    for module in model.modules():
        names = [*getattr(module, "adapter_layer_names", ()), "modules_to_save"]
        for part in (getattr(module, name, None) for name in names):
            if isinstance(part, torch.Tensor | nn.Module):
                # Adapters are modules, or single parameters; what PEFT calls a tensor here always is one.
                yield from part.parameters() if isinstance(part, nn.Module) else (part,)  # type: ignore[misc]
