"""Does forgotten text come back? A few steps of training on half of it, and the loss of the other half.

Text that was removed has to be learned from nothing; text that is only hidden comes back with its neighbours (as in
Lynch et al. 2024, arXiv 2402.16835, and Deeb and Roger 2024, arXiv 2410.08827).
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses
from memsinks.baselines.text import endless, mean_loss
from memsinks.training.run import bf16_pays

STEPS, ROWS, RATE = 20, 8, 2e-4


def relearned(model: Any, documents: Sequence[TokenizedDocument], *, max_length: int, seed: int) -> DocumentLosses:
    """Losses of every second document after :data:`STEPS` steps of AdamW on the others.

    Args:
        model: a plain causal language model; a copy of it is trained.
        documents: at least two, that the model should not know.
        max_length: tokens of a document that are used.
        seed: of their order.
    """
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    batches = endless(documents[0::2], max_length, ROWS, seed)
    for _ in range(STEPS):
        model.zero_grad()
        mean_loss(model, *next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return document_losses(model, documents[1::2], mode=None, max_length=max_length, autocast=bf16_pays())
