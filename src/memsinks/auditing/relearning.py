"""Train a copy of a model on some text, step by step, and watch the loss of that text and of other text."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses
from memsinks.baselines.text import IGNORED, endless, mean_loss
from memsinks.errors import InputError
from memsinks.training.run import bf16_pays

SPLIT_WHOLE = 4
"""Documents from which on every other one is trained; of fewer, the first half of each."""


@dataclass(frozen=True, eq=False)
class Point:
    """A model on its way.

    Attributes:
        step: optimiser steps so far.
        tokens: that were predicted in them.
        losses: of each watched set of documents, by name.
    """

    step: int
    tokens: int
    losses: dict[str, DocumentLosses]


def relearning(
    model: Any,
    trained: Sequence[TokenizedDocument],
    watched: Mapping[str, Sequence[TokenizedDocument]],
    *,
    steps: int,
    rate: float,
    rows: int,
    max_length: int,
    seed: int,
    measured: Sequence[int] | None = None,
) -> list[Point]:
    """Train all weights with AdamW (no weight decay, gradients clipped to norm 1), and measure on the way.

    Args:
        model: a plain causal language model; a copy of it is trained, in float32.
        trained: what it is trained on, in a new order each time round.
        watched: what is measured.
        steps: of the optimiser.
        rate: learning rate, constant.
        rows: most documents in a step.
        max_length: tokens of a document that are used.
        seed: of the order.
        measured: numbers of steps after which is measured; default :func:`checkpoints`.
    """
    # In half precision small steps would be rounded away.
    model = copy.deepcopy(model).float()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    batches, tokens, points = endless(trained, max_length, rows, seed), 0, []
    device = next(model.parameters()).device
    with torch.random.fork_rng():
        # Of dropout, where a model has it.
        torch.manual_seed(seed)
        for step in range(steps + 1):
            if step in (checkpoints(steps) if measured is None else measured):
                losses = {name: _losses(model, documents, max_length) for name, documents in watched.items()}
                points.append(Point(step, tokens, losses))
            if step < steps:
                inputs, labels = next(batches)
                tokens += int((labels != IGNORED).sum())
                model.zero_grad()
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16_pays()):
                    loss = mean_loss(model, inputs, labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
    return points


def checkpoints(steps: int) -> list[int]:
    """Steps after which is measured: 0, powers of two, and the last."""
    powers = [2**n for n in range(steps.bit_length()) if 2**n < steps]
    return [0, *powers, steps]


def parted(
    documents: Sequence[TokenizedDocument], max_length: int
) -> tuple[list[TokenizedDocument], list[TokenizedDocument]]:
    """What is trained, and the rest, that is not.

    Of at least :data:`SPLIT_WHOLE` documents every other one is trained. Of fewer, the first half of each, and the rest
    is its second half, read with the first as context.

    Raises:
        InputError: a document is too short to be halved.
    """
    if len(documents) >= SPLIT_WHOLE:
        return list(documents[0::2]), list(documents[1::2])
    first, second = [], []
    for document in documents:
        tokens = document.tokens[:max_length]
        if len(tokens) < 4:
            raise InputError(f"document {document.name!r} has {len(tokens)} tokens; halves of it need 4: leave it out")
        half = len(tokens) // 2
        first.append(TokenizedDocument(document.name, tokens[:half], document.sequence_id))
        second.append(TokenizedDocument(document.name, tokens, document.sequence_id, scored_from=half))
    return first, second


def reached(points: Sequence[Point], name: str, threshold: float) -> tuple[float, float] | None:
    """Steps and tokens at which a set's loss fell to ``threshold``, between two measurements by a straight line.

    None if it did not.
    """
    for number, point in enumerate(points):
        loss = point.losses[name].mean
        if loss > threshold:
            continue
        if number == 0:
            return 0.0, 0.0
        before = points[number - 1]
        above = before.losses[name].mean
        share = (above - threshold) / (above - loss)
        return (
            before.step + share * (point.step - before.step),
            before.tokens + share * (point.tokens - before.tokens),
        )
    return None


def _losses(model: Any, documents: Sequence[TokenizedDocument], max_length: int) -> DocumentLosses:
    return document_losses(model, documents, mode=None, max_length=max_length, autocast=bf16_pays())
