"""Batches of documents for methods that differentiate through the model."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memsinks.audit import TokenizedDocument
from memsinks.audit.chunks import IGNORED
from memsinks.errors import InputError


def padded(documents: Sequence[TokenizedDocument], max_length: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels, ``int64 [B, T]``, of the documents' first ``max_length`` tokens.

    Padding, and tokens before ``scored_from``, are not predicted.
    """
    width = min(max_length, max(len(d.tokens) for d in documents))
    inputs = np.zeros((len(documents), width), dtype=np.int64)
    labels = np.full_like(inputs, IGNORED)
    for row, document in enumerate(documents):
        tokens = document.tokens[:width]
        inputs[row, : len(tokens)] = tokens
        labels[row, document.scored_from : len(tokens)] = tokens[document.scored_from :]
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def batches(documents: Sequence[TokenizedDocument], max_length: int, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All documents in their order, ``rows`` at a time."""
    for start in range(0, len(documents), rows):
        yield padded(documents[start : start + rows], max_length)


def endless(
    documents: Sequence[TokenizedDocument], max_length: int, rows: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for ever, in a new order each time round.

    Raises:
        InputError: there are no documents.
    """
    if not documents:
        raise InputError("there is no text to take batches from; give at least one document")
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(len(documents))
        for start in range(0, len(order), rows):
            yield padded([documents[i] for i in order[start : start + rows]], max_length)


def token_losses(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Loss of each token in nats, 0 where it is not predicted: ``[B, T - 1]``, on the model's device."""
    device = next(model.parameters()).device
    inputs, labels = inputs.to(device), labels.to(device)
    logits = model(input_ids=inputs, use_cache=False).logits[:, :-1].float()
    return F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=IGNORED, reduction="none")


def mean_loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of the predicted tokens."""
    return token_losses(model, inputs, labels).sum() / (labels[:, 1:] != IGNORED).sum()
