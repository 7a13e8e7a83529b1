"""Generate several completions together, each by its own settings and with its own sinks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from memsinks.serving.generation import Generation
from memsinks.sinks.modes import OFF, Mode, use_sinks


@torch.no_grad()
def decode(model: Any, generations: Sequence[Generation], *, permits: Callable[[Mode], bool]) -> None:
    """Run completions to their ends.

    Prompts are padded on the left; padding is masked, has no sinks and takes no position. A completion that ends leaves
    the batch.

    Args:
        model: with sinks, in evaluation mode.
        generations: at least one.
        permits: asked before each token whether a mode may run; a completion whose mode may not is refused.
    """
    device = next(model.parameters()).device
    running = list(generations)
    width = max(len(generation.prompt) for generation in running)
    # Any token does for padding.
    inputs = torch.tensor([[0] * (width - len(g.prompt)) + g.prompt for g in running], device=device)
    missing = torch.tensor([width - len(g.prompt) for g in running], device=device)
    mask = (torch.arange(width, device=device) >= missing[:, None]).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    while True:
        stay = [index for index, generation in enumerate(running) if _goes_on(generation, permits)]
        if not stay:
            return
        if len(stay) < len(running):
            running = [running[index] for index in stay]
            chosen = torch.tensor(stay, device=device)
            inputs, mask, positions = inputs[chosen], mask[chosen], positions[chosen]
            if cache.get_seq_length():
                cache.batch_select_indices(chosen)
        with use_sinks(model, [generation.mode for generation in running]):
            output = model(
                input_ids=inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits = output.logits[:, -1].float().cpu()
        tokens = [generation.take(row) for generation, row in zip(running, logits, strict=True)]
        inputs = torch.tensor(tokens, device=device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
        positions = positions[:, -1:] + 1


def _goes_on(generation: Generation, permits: Callable[[Mode], bool]) -> bool:
    if generation.finished is not None or generation.cancelled:
        return False
    if generation.mode != OFF and not permits(generation.mode):
        generation.finish("refused")
        return False
    return True
