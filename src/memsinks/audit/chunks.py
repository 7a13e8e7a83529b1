"""Documents cut into rows of a batch, as in training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from memsinks.audit.documents import TokenizedDocument
from memsinks.errors import InputError

IGNORED = -100
"""Label of a token that is not scored."""


@dataclass(frozen=True)
class Chunk:
    """Tokens of a document that are read together: ``length`` from ``start`` on."""

    document: int
    start: int
    length: int


def check_readable(documents: Sequence[TokenizedDocument], max_length: int, batch_tokens: int) -> None:
    """Raise :class:`InputError` for what cannot be read: nothing, a document without a token to predict, a bad size."""
    if not documents:
        raise InputError("there are no documents to measure; pass at least one")
    for document in documents:
        if len(document.tokens) < 2:
            raise InputError(
                f"document {document.name!r} has {len(document.tokens)} token(s); a loss needs 2: leave it out"
            )
    if max_length < 2 or batch_tokens < 1:
        raise InputError(f"max_length ({max_length}) must be at least 2 and batch_tokens ({batch_tokens}) at least 1")


def chunks(documents: Sequence[TokenizedDocument], max_length: int) -> list[Chunk]:
    """All chunks of at least two tokens, the longest first: too large a batch fails at once, not at the end."""
    found = [
        Chunk(i, start, min(max_length, len(d.tokens) - start))
        for i, d in enumerate(documents)
        for start in range(0, len(d.tokens), max_length)
    ]
    # A last chunk of one token predicts nothing.
    return sorted((c for c in found if c.length > 1), key=lambda c: -c.length)


def chunk_batches(found: list[Chunk], batch_tokens: int) -> list[list[Chunk]]:
    """Neighbouring chunks, so many tokens (padding included) together; a single longer one is a batch too."""
    batches: list[list[Chunk]] = []
    for chunk in found:
        if not batches or (len(batches[-1]) + 1) * batches[-1][0].length > batch_tokens:
            batches.append([])
        batches[-1].append(chunk)
    return batches


def padded_chunks(
    documents: Sequence[TokenizedDocument], batch: list[Chunk]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, which of them are no padding, and which count: ``int64 [B, T]`` each."""
    inputs = np.zeros((len(batch), batch[0].length), dtype=np.int64)
    mask, scored = np.zeros_like(inputs), np.zeros_like(inputs)
    for row, c in enumerate(batch):
        inputs[row, : c.length] = documents[c.document].tokens[c.start : c.start + c.length]
        mask[row, : c.length] = 1
        scored[row, max(0, documents[c.document].scored_from - c.start) : c.length] = 1
    return torch.from_numpy(inputs), torch.from_numpy(mask), torch.from_numpy(scored)


def batches_of(
    documents: Sequence[TokenizedDocument], max_length: int, batch_tokens: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches of the beginnings of documents, those of like length together.

    Each is the documents' numbers, inputs, mask and labels, ``int64 [B, T]`` each; a label is the token that follows,
    :data:`IGNORED` where that is not scored.
    """
    found = [Chunk(i, 0, min(len(d.tokens), max_length)) for i, d in enumerate(documents)]
    for batch in chunk_batches(sorted(found, key=lambda c: -c.length), batch_tokens):
        inputs, mask, scored = padded_chunks(documents, batch)
        yield [c.document for c in batch], inputs, mask, next_tokens(inputs, scored)


def next_tokens(inputs: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Labels, ``int64 [B, T]``: at each position the token that follows, :data:`IGNORED` where that is not scored."""
    labels = torch.full_like(inputs, IGNORED)
    labels[:, :-1] = inputs[:, 1:].masked_fill(scored[:, 1:] == 0, IGNORED)
    return labels
