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

from memsinks.audit.chunks import IGNORED, check_readable, chunk_batches, chunks, next_tokens, padded_chunks
from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.sinks.modes import ModeLike

SLICE_TOKENS = 1024
"""Rows of logits turned to float32 at a time: bounds the extra memory whatever the batch."""


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
    check_readable(documents, max_length, batch_tokens)
    loss_sum = np.zeros(len(documents))
    tokens = np.zeros(len(documents), dtype=np.int64)
    batches = chunk_batches(chunks(documents, max_length), batch_tokens)
    console = Console(stderr=True)
    with measuring(model, mode, autocast=autocast) as device:
        for batch in track(batches, "Measuring loss", console=console, disable=not progress, transient=True):
            inputs, mask, scored = padded_chunks(documents, batch)
            ids = sequence_id_inputs([documents[c.document].sequence_id for c in batch], mode, device)
            inputs, mask, scored = inputs.to(device), mask.to(device), scored.to(device)
            logits = model(input_ids=inputs, attention_mask=mask, use_cache=False, **ids).logits
            sums, counts = _row_losses(logits, inputs, scored), scored[:, 1:].sum(dim=1)
            for chunk, value, count in zip(batch, sums.tolist(), counts.tolist(), strict=True):
                loss_sum[chunk.document] += value
                tokens[chunk.document] += count
    return DocumentLosses(tuple(d.name for d in documents), loss_sum, tokens)


def _row_losses(logits: torch.Tensor, inputs: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Summed loss of each row, float64 ``[B]``, from ``[B, T, V]`` logits."""
    labels = next_tokens(inputs, scored)
    losses = torch.cat(list(_sliced_losses(logits.flatten(0, 1), labels.flatten())))
    return losses.view_as(inputs).double().sum(dim=1)


def _sliced_losses(logits: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    for part, target in zip(logits.split(SLICE_TOKENS), labels.split(SLICE_TOKENS), strict=True):
        yield F.cross_entropy(part.float(), target, ignore_index=IGNORED, reduction="none")
