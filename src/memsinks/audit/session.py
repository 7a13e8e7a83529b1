"""How every measurement runs a model: evaluation mode, one sink mode, no gradient, everything restored afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from memsinks.ids import to_tensor
from memsinks.sinks.modes import ModeLike, use_sinks


@contextmanager
def measuring(model: nn.Module, mode: ModeLike | None, *, autocast: bool = False) -> Iterator[torch.device]:
    """Prepare ``model`` for measurement inside the block and yield the device to put inputs on.

    Args:
        model: a model with sinks, or any plain model when ``mode`` is None.
        mode: the sink mode of the block; None leaves the model as it is.
        autocast: run matrix products in bfloat16.
    """
    device = next(model.parameters()).device
    was_training = [module for module in model.modules() if module.training]
    with ExitStack() as stack:
        if mode is not None:
            stack.enter_context(use_sinks(model, mode))
        # Not inference_mode: a tensor that a model caches in there cannot be used by a later training step.
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast))
        model.eval()
        try:
            yield device
        finally:
            for module in was_training:
                module.training = True


def sequence_id_inputs(ids: Sequence[int], mode: ModeLike | None, device: torch.device) -> dict[str, torch.Tensor]:
    """The keyword ``sequence_ids`` (int64 bit patterns, ``[B]``) of a model with sinks; nothing for a plain model."""
    return {} if mode is None else {"sequence_ids": to_tensor(ids).to(device)}
