"""Mean token loss, with a value for each document."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import nn

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike

SLICE_TOKENS = 1024
"""Rows of logits turned to float32 at a time: bounds the extra memory whatever the batch."""

IGNORED = -100


@dataclass(frozen=True, eq=False)
class DocumentLosses:
    """The losses of ``d`` documents.

    Attributes:
        names: the documents' names, in the order they were given.
        loss_sum: float64 ``[d]``, nats summed over the predicted tokens of each document.
        tokens: int64 ``[d]``, how many tokens were predicted.
    """

    names: tuple[str, ...]
    loss_sum: np.ndarray
    tokens: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per token over all tokens: a long document weighs more than a short one."""
        return float(self.loss_sum.sum() / self.tokens.sum())

    @property
    def per_document(self) -> np.ndarray:
        """Nats per token of each document, float64 ``[d]``."""
        return self.loss_sum / self.tokens

    def __len__(self) -> int:
        return len(self.names)

    def to_json(self) -> dict[str, Any]:
        """Plain Python values for :func:`json.dump`."""
        return {
            "mean": self.mean,
            "names": list(self.names),
            "loss_sum": self.loss_sum.tolist(),
            "tokens": self.tokens.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        names, loss_sum, tokens = (content[key] for key in ("names", "loss_sum", "tokens"))
        return cls(tuple(names), np.array(loss_sum), np.array(tokens, dtype=np.int64))


@dataclass(frozen=True)
class _Chunk:
    document: int
    start: int
    length: int


def document_losses(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    max_length: int,
    batch_tokens: int = 16384,
    autocast: bool = False,
    progress: bool = False,
) -> DocumentLosses:
    """Teacher-forced loss of each document.

    A document longer than ``max_length`` is read as consecutive chunks, each with a fresh context, as in training: the
    first token of a chunk is context and is not scored; every other token from ``scored_from`` on is scored once.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        documents: what to measure, in the order of the result.
        mode: which sinks to switch on; None measures a plain model, without sequence IDs.
        max_length: tokens the model may see at once.
        batch_tokens: tokens (padding included) in one forward; a single longer row is still run.
        autocast: compute in bfloat16; the loss itself is always taken in float32.
        progress: show a progress bar on stderr.

    Raises:
        InputError: no documents, a document with fewer than two tokens, or an impossible size.
    """
    _check(documents, max_length, batch_tokens)
    loss_sum = np.zeros(len(documents))
    tokens = np.zeros(len(documents), dtype=np.int64)
    batches = _batches(_chunks(documents, max_length), batch_tokens)
    console = Console(stderr=True)
    with measuring(model, mode, autocast=autocast) as device:
        for batch in track(batches, "Measuring loss", console=console, disable=not progress, transient=True):
            inputs, mask, scored = _pad(documents, batch)
            ids = sequence_id_inputs([documents[c.document].sequence_id for c in batch], mode, device)
            inputs, mask, scored = inputs.to(device), mask.to(device), scored.to(device)
            logits = model(input_ids=inputs, attention_mask=mask, use_cache=False, **ids).logits
            sums, counts = _row_losses(logits, inputs, scored), scored[:, 1:].sum(dim=1)
            for chunk, value, count in zip(batch, sums.tolist(), counts.tolist(), strict=True):
                loss_sum[chunk.document] += value
                tokens[chunk.document] += count
    return DocumentLosses(tuple(d.name for d in documents), loss_sum, tokens)


def _check(documents: Sequence[TokenizedDocument], max_length: int, batch_tokens: int) -> None:
    if not documents:
        raise InputError("there are no documents to measure; pass at least one")
    for document in documents:
        if len(document.tokens) < 2:
            raise InputError(
                f"document {document.name!r} has {len(document.tokens)} token(s); a loss needs 2: leave it out"
            )
    if max_length < 2 or batch_tokens < 1:
        raise InputError(f"max_length ({max_length}) must be at least 2 and batch_tokens ({batch_tokens}) at least 1")


def _chunks(documents: Sequence[TokenizedDocument], max_length: int) -> list[_Chunk]:
    chunks = [
        _Chunk(i, start, min(max_length, len(d.tokens) - start))
        for i, d in enumerate(documents)
        for start in range(0, len(d.tokens), max_length)
    ]
    # A last chunk of one token predicts nothing. Longest first: too large a batch fails at once, not at the end.
    return sorted((c for c in chunks if c.length > 1), key=lambda c: -c.length)


def _batches(chunks: list[_Chunk], batch_tokens: int) -> list[list[_Chunk]]:
    batches: list[list[_Chunk]] = []
    for chunk in chunks:
        if not batches or (len(batches[-1]) + 1) * batches[-1][0].length > batch_tokens:
            batches.append([])
        batches[-1].append(chunk)
    return batches


def _pad(
    documents: Sequence[TokenizedDocument], batch: list[_Chunk]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, which of them are no padding, and which count: ``int64 [B, T]`` each."""
    inputs = np.zeros((len(batch), batch[0].length), dtype=np.int64)
    mask, scored = np.zeros_like(inputs), np.zeros_like(inputs)
    for row, c in enumerate(batch):
        inputs[row, : c.length] = documents[c.document].tokens[c.start : c.start + c.length]
        mask[row, : c.length] = 1
        scored[row, max(0, documents[c.document].scored_from - c.start) : c.length] = 1
    return torch.from_numpy(inputs), torch.from_numpy(mask), torch.from_numpy(scored)


def _row_losses(logits: torch.Tensor, inputs: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Summed loss of each row, float64 ``[B]``, from ``[B, T, V]`` logits."""
    labels = torch.full_like(inputs, IGNORED)
    labels[:, :-1] = inputs[:, 1:].masked_fill(scored[:, 1:] == 0, IGNORED)
    losses = torch.cat(list(_sliced_losses(logits.flatten(0, 1), labels.flatten())))
    return losses.view_as(inputs).double().sum(dim=1)


def _sliced_losses(logits: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    for part, target in zip(logits.split(SLICE_TOKENS), labels.split(SLICE_TOKENS), strict=True):
        yield F.cross_entropy(part.float(), target, ignore_index=IGNORED, reduction="none")
