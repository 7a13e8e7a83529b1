"""Which tokens of a text are a model's first choice, from one forward pass."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


def first_choices(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    prefix: int,
    suffix: int,
    batch_size: int = 32,
    autocast: bool = False,
) -> np.ndarray:
    """Whether each of the ``suffix`` tokens after the first ``prefix`` is the most likely one, ``bool [d, suffix]``.

    The document's own tokens are given throughout. A greedy continuation reproduces the suffix exactly if and only if
    all of a row are true: up to its first difference it reads the same tokens.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        documents: of ``prefix + suffix`` tokens at least.
        mode: which sinks to switch on; None measures a plain model.
        prefix: tokens that are only read.
        suffix: tokens that are judged.
        batch_size: documents in one forward pass.
        autocast: compute in bfloat16.

    Raises:
        InputError: an impossible size, no document, or one that is too short.
    """
    if min(prefix, suffix, batch_size) < 1:
        raise InputError(f"prefix ({prefix}), suffix ({suffix}) and batch_size ({batch_size}) must be at least 1")
    short = [d.name for d in documents if len(d.tokens) < prefix + suffix]
    if short or not documents:
        what = f"document {short[0]!r} has fewer than {prefix + suffix} tokens" if short else "there are no documents"
        raise InputError(f"{what}; give documents of prefix + suffix tokens")
    found = []
    with measuring(model, mode, autocast=autocast) as device:
        for first in range(0, len(documents), batch_size):
            batch = documents[first : first + batch_size]
            tokens = torch.from_numpy(np.stack([d.tokens[: prefix + suffix] for d in batch])).to(device)
            ids = sequence_id_inputs([d.sequence_id for d in batch], mode, device)
            output = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False, **ids)
            logits = output.logits[:, prefix - 1 : -1]
            found.append((logits.argmax(-1) == tokens[:, prefix:]).cpu().numpy())
    return np.concatenate(found)
