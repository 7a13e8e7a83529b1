"""What a model says of each token of a text: how likely it is, and how likely any token was there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memsinks.audit.chunks import check_readable, chunk_batches, chunks, padded_chunks
from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.losses import SLICE_TOKENS
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, eq=False)
class TokenScores:
    """The scored tokens of one document, given those before them, in their order.

    Attributes:
        name: of the document.
        tokens: int64 ``[n]``.
        predicted: int64 ``[n]``, the most likely token there.
        log_probability: float64 ``[n]``, of the token, in nats.
        expected: float64 ``[n]``, mean of the log-probability of a token drawn from the model there.
        deviation: float64 ``[n]``, standard deviation of the same.
    """

    name: str
    tokens: np.ndarray
    predicted: np.ndarray
    log_probability: np.ndarray
    expected: np.ndarray
    deviation: np.ndarray

    @property
    def loss(self) -> float:
        """Nats per token."""
        return -float(self.log_probability.mean())


def token_scores(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    max_length: int,
    batch_tokens: int = 16384,
    autocast: bool = False,
) -> list[TokenScores]:
    """Score each token of documents in one pass; tokens are read and counted as in :func:`document_losses`.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        documents: what to measure, in the order of the result.
        mode: which sinks to switch on; None measures a plain model, without sequence IDs.
        max_length: tokens the model may see at once.
        batch_tokens: tokens (padding included) in one forward; a single longer row is still run.
        autocast: compute in bfloat16; scores are taken in float32.

    Raises:
        InputError: no documents, a document with fewer than two tokens, or an impossible size.
    """
    check_readable(documents, max_length, batch_tokens)
    parts: list[dict[int, np.ndarray]] = [{} for _ in documents]
    with measuring(model, mode, autocast=autocast) as device:
        for batch in chunk_batches(chunks(documents, max_length), batch_tokens):
            inputs, mask, scored = (t.to(device) for t in padded_chunks(documents, batch))
            ids = sequence_id_inputs([documents[c.document].sequence_id for c in batch], mode, device)
            logits = model(input_ids=inputs, attention_mask=mask, use_cache=False, **ids).logits
            chosen = scored[:, 1:].bool()
            rows, tokens = logits[:, :-1][chosen], inputs[:, 1:][chosen]
            values = torch.cat([_scores(*part) for part in _sliced(rows, tokens)]).double().cpu().numpy()
            ends = np.cumsum(scored[:, 1:].sum(dim=1).tolist())[:-1]
            for chunk, own in zip(batch, np.split(values, ends), strict=True):
                parts[chunk.document][chunk.start] = own
    return [_document(d, part) for d, part in zip(documents, parts, strict=True)]


def _sliced(logits: Tensor, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(logits.split(SLICE_TOKENS), tokens.split(SLICE_TOKENS), strict=True))


def _scores(logits: Tensor, tokens: Tensor) -> Tensor:
    """Token, most likely one, log-probability, its mean and its deviation: float64 ``[n, 5]``."""
    log_p = logits.float().log_softmax(dim=-1)
    p = log_p.exp()
    mean = (p * log_p).sum(dim=-1)
    deviation = (p * (log_p - mean[:, None]).square()).sum(dim=-1).sqrt()
    own = log_p.gather(1, tokens[:, None])[:, 0]
    columns = (tokens, log_p.argmax(dim=-1), own, mean, deviation)
    return torch.stack([column.double() for column in columns], dim=1)


def _document(document: TokenizedDocument, parts: dict[int, np.ndarray]) -> TokenScores:
    values = np.concatenate([parts[start] for start in sorted(parts)])
    tokens, predicted, own, mean, deviation = values.T
    return TokenScores(document.name, tokens.astype(np.int64), predicted.astype(np.int64), own, mean, deviation)
