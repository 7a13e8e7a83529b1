"""What a model writes after given beginnings."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.generation import continued, generation_settings
from memsinks.audit.session import measuring
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


def continuations(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    prefix: int,
    tokens: int,
    temperature: float | None,
    end: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    autocast: bool = False,
) -> list[np.ndarray]:
    """Continue the first ``prefix`` tokens of each document, up to the end of text.

    Args:
        model: a causal language model with ``generate``; with sinks attached unless ``mode`` is None.
        documents: of ``prefix`` tokens at least.
        mode: which sinks to switch on; None for a plain model.
        prefix: tokens given, from the document's start.
        tokens: most tokens written.
        temperature: of sampling from the whole distribution; None takes the most likely token each time.
        end: the end-of-text token; what is written after it is dropped, and so is itself.
        seed: of sampling; torch's own random state is left as it was.
        batch_size: documents continued at once.
        autocast: compute in bfloat16.

    Returns:
        ``int64``, at most ``tokens`` long each.

    Raises:
        InputError: an impossible size or temperature, no document, or one that is too short.
    """
    if min(prefix, tokens, batch_size) < 1 or (temperature is not None and temperature <= 0):
        raise InputError(
            f"prefix ({prefix}), tokens ({tokens}) and batch_size ({batch_size}) must be at least 1, and the "
            f"temperature ({temperature}) above 0"
        )
    short = [d.name for d in documents if len(d.tokens) < prefix]
    if short or not documents:
        what = f"document {short[0]!r} has fewer than {prefix} tokens" if short else "there are no documents"
        raise InputError(f"{what}; give documents of at least as many tokens as the prefix")
    chosen = {} if temperature is None else {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    settings = GenerationConfig(
        do_sample=temperature is not None, num_beams=1, use_cache=True, max_new_tokens=tokens, **chosen
    )
    found = []
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with (
        torch.random.fork_rng(devices=devices),
        measuring(model, mode, autocast=autocast) as device,
        generation_settings(model, settings),
    ):
        torch.manual_seed(seed)
        for first in range(0, len(documents), batch_size):
            batch = documents[first : first + batch_size]
            found += [_until(row, end) for row in continued(model, batch, prefix, mode, device)]
    return found


def _until(tokens: np.ndarray, end: int | None) -> np.ndarray:
    ends = np.flatnonzero(tokens == end) if end is not None else np.zeros(0, dtype=np.int64)
    return tokens[: ends[0]] if len(ends) else tokens
