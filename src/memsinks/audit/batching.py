"""Documents side by side, those of like length together."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.losses import IGNORED


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
