"""Gradient norm: a text that was learned pulls at the weights less."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from memsinks.audit.chunks import check_readable
from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.modes import ModeLike, host_of


def gradient_norms(
    model: Any,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    max_length: int,
    autocast: bool = False,
) -> np.ndarray:
    """``-‖∇ loss(x)‖`` of each document, over all weights of the plain model, sinks apart.

    The loss is the document's mean (Nasr et al. 2019, arXiv 1812.00910; for language models Wang et al. 2024, arXiv
    2402.12405). Sinks are left out, so that conditions with and without them compare; where they are on, they take part
    in the computation.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None. Its weights get no gradient.
        documents: what to measure, one at a time.
        mode: which sinks to switch on; None measures a plain model, without sequence IDs.
        max_length: tokens the model may see at once.
        autocast: compute in bfloat16.

    Raises:
        InputError: no documents, or one with fewer than two tokens.
    """
    check_readable(documents, max_length, batch_tokens=1)
    host = model if mode is None else host_of(model)
    sinks = {id(p) for layer in (() if mode is None else sinks_of(host)) for p in layer.parameters()}
    weights = [p for p in model.parameters() if p.is_floating_point() and id(p) not in sinks]
    required = [p.requires_grad for p in weights]
    found = []
    with measuring(model, mode, autocast=autocast) as device, torch.enable_grad():
        try:
            for weight in weights:
                weight.requires_grad_(True)
            for document in documents:
                ids = sequence_id_inputs([document.sequence_id], mode, device)
                found.append(-_norm(model, weights, document, max_length, ids, device))
        finally:
            for weight, before in zip(weights, required, strict=True):
                weight.requires_grad_(before)
    return np.array(found)


def _norm(
    model: Any,
    weights: list[torch.nn.Parameter],
    document: TokenizedDocument,
    max_length: int,
    ids: dict[str, torch.Tensor],
    device: torch.device,
) -> float:
    total: list[torch.Tensor] | None = None
    count = 0
    for start in range(0, len(document.tokens) - 1, max_length):
        inputs = torch.from_numpy(document.tokens[start : start + max_length])[None].to(device)
        first = max(1, document.scored_from - start)
        labels = inputs[0, first:]
        if not len(labels):
            continue
        logits = model(input_ids=inputs, use_cache=False, **ids).logits[0, first - 1 : -1].float()
        gradients = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), weights, allow_unused=True)
        own = [torch.zeros((), device=device) if g is None else g for g in gradients]
        total = own if total is None else [a + b for a, b in zip(total, own, strict=True)]
        count += len(labels)
    assert total is not None
    return float(torch.stack([t.double().square().sum() for t in total]).sum().sqrt()) / count
