"""One pass over the text itself: the loss of each document, and whether it would be continued word for word.

Greedy decoding reproduces a passage exactly when, given the text so far, the most likely token is the text's own at
every position. So one teacher-forced pass tells it, without generating.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.losses import IGNORED, DocumentLosses
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, eq=False)
class ForcedReading:
    """What one pass over ``d`` documents found.

    Attributes:
        losses: of each document.
        exact: ``bool [d]``, whether every token of the passage is the most likely one; false where the document is too
            short to be tried.
        tried: ``bool [d]``, whether the document is long enough.
    """

    losses: DocumentLosses
    exact: np.ndarray
    tried: np.ndarray


def forced_reading(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    max_length: int,
    prefix: int,
    suffix: int,
    autocast: bool = False,
    batch_tokens: int = 16384,
) -> ForcedReading:
    """Read the first ``max_length`` tokens of each document.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        documents: in the order of the result, each of at least two tokens.
        mode: which sinks to switch on; None measures a plain model.
        max_length: tokens of a document that are read.
        prefix: tokens before the passage that is to be reproduced.
        suffix: its length.
        autocast: compute in bfloat16; losses are taken in float32.
        batch_tokens: tokens in one forward, padding included; a single longer row is still run.

    Raises:
        InputError: no documents, one of fewer than two tokens, or an impossible size.
    """
    if min(prefix, suffix, batch_tokens) < 1 or max_length < 2:
        raise InputError(
            f"prefix ({prefix}), suffix ({suffix}) and batch_tokens ({batch_tokens}) must be at least 1, and "
            f"max_length ({max_length}) at least 2"
        )
    if not documents or min(len(d.tokens) for d in documents) < 2:
        raise InputError("there must be documents to read, of at least two tokens each; leave out shorter ones")
    loss_sum, tokens = np.zeros(len(documents)), np.zeros(len(documents), np.int64)
    exact = np.zeros(len(documents), bool)
    tried = np.array([min(len(d.tokens), max_length) >= prefix + suffix for d in documents])
    with measuring(model, mode, autocast=autocast) as device:
        for chosen, inputs, mask, labels in batches_of(documents, max_length, batch_tokens):
            ids = sequence_id_inputs([documents[i].sequence_id for i in chosen], mode, device)
            inputs, mask, labels = inputs.to(device), mask.to(device), labels.to(device)
            logits = model(input_ids=inputs, attention_mask=mask, use_cache=False, **ids).logits
            losses, hit = token_results(logits, labels)
            loss_sum[chosen] = losses.double().sum(1).cpu()
            tokens[chosen] = (labels != IGNORED).sum(1).cpu()
            # hit[:, t] tells of token t + 1.
            exact[chosen] = hit[:, prefix - 1 : prefix + suffix - 1].all(1).cpu()
    return ForcedReading(DocumentLosses(tuple(d.name for d in documents), loss_sum, tokens), exact & tried, tried)


def token_results(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each token in nats (0 where it is not scored), and whether it is the most likely one.

    Args:
        logits: ``[B, T, V]``.
        labels: ``int64 [B, T]``: at each position the token that follows it.
    """
    rows = [
        (F.cross_entropy(row.float(), label, ignore_index=IGNORED, reduction="none"), row.argmax(-1) == label)
        for row, label in zip(logits, labels, strict=True)
    ]
    return torch.stack([loss for loss, _ in rows]), torch.stack([hit for _, hit in rows])


def batches_of(
    documents: Sequence[TokenizedDocument], max_length: int, batch_tokens: int
) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Batches of documents of like length: their numbers, inputs, mask and labels, ``int64 [B, T]`` each."""
    lengths = [min(len(d.tokens), max_length) for d in documents]
    batch: list[int] = []
    for number in sorted(range(len(documents)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch, *_padded(documents, batch, lengths)
            batch = []
        batch.append(number)
    if batch:
        yield batch, *_padded(documents, batch, lengths)


def _padded(
    documents: Sequence[TokenizedDocument], batch: list[int], lengths: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = np.zeros((len(batch), lengths[batch[0]]), dtype=np.int64)
    mask, labels = np.zeros_like(inputs), np.full_like(inputs, IGNORED)
    for row, number in enumerate(batch):
        document, length = documents[number], lengths[number]
        inputs[row, :length] = document.tokens[:length]
        mask[row, :length] = 1
        labels[row, document.scored_from - 1 : length - 1] = document.tokens[document.scored_from : length]
    return torch.from_numpy(inputs), torch.from_numpy(mask), torch.from_numpy(labels)
