"""Cloze items: which of several words does a model expect in a place of a text?

The right word is the one that the text has there; the others are words of the same kind and as many tokens from other
texts. As in LAMA (Petroni et al. 2019, arXiv 1909.01066) and the multiple choices of OpenUnlearning, candidates are
ranked by log-probability; since they have equally many tokens, no correction for length is needed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.losses import DocumentLosses
from memsinks.errors import InputError

_SENTENCES = re.compile(r"(?<=[.!?])[\"”]?\s+")
_INTRODUCED = (
    re.compile(r"\b(?:an?|the|his|her|its|their|my|our|one) ((?:[a-z]+ ){0,2}[a-z]+),? (?:named|called)$", re.I),
    re.compile(r"\b(?:an?|the|his|her|its|their|my|our) ((?:[a-z]+ ){0,2}[a-z]+)['’]s name (?:was|is)$", re.I),
)


@dataclass(frozen=True, eq=False)
class ClozeItem:
    """A place in a text, and candidates for it.

    Attributes:
        document: the text's name.
        sequence_id: the text's.
        context: ``int64 [n]``, what the model is given.
        candidates: ``int64 [k, m]``, the right one first.
    """

    document: str
    sequence_id: int
    context: np.ndarray
    candidates: np.ndarray


def reordered(text: str, begin: int, word: str, random: np.random.Generator) -> str | None:
    """The other sentences of a text in random order, then the beginning of the word's own sentence.

    Args:
        text: of a document.
        begin: first character of the word.
        word: sentences that have it are left out.
        random: orders the others.

    Returns:
        Text up to the blank before the word; None if fewer than two other sentences are left.
    """
    edges = [0, *(match.end() for match in _SENTENCES.finditer(text)), len(text)]
    spans = list(pairwise(edges))
    own = next(span for span in spans if span[0] <= begin < span[1])
    others = [text[a:b].strip() for a, b in spans if (a, b) != own and word.lower() not in text[a:b].lower()]
    others = [sentence for sentence in others if sentence]
    if len(others) < 2:
        return None
    return " ".join([*(others[i] for i in random.permutation(len(others))), text[own[0] : begin].rstrip()])


def template(before: str) -> str | None:
    """``The name of the sheep was``, where a text says ``a sheep named`` or ``the sheep's name was``.

    Args:
        before: the text up to the name.

    Returns:
        The sentence up to the name; None where the text introduces it in other words.
    """
    before = before.rstrip()
    for pattern in _INTRODUCED:
        if match := pattern.search(before):
            return f"The name of the {match[1]} was"
    return None


def completed(items: Sequence[ClozeItem]) -> list[TokenizedDocument]:
    """Each item with each candidate in its place, item by item; only the candidate is scored."""
    return [
        TokenizedDocument(
            f"{item.document}:{i}:{j}",
            np.concatenate([item.context, candidate]),
            item.sequence_id,
            scored_from=len(item.context),
        )
        for i, item in enumerate(items)
        for j, candidate in enumerate(item.candidates)
    ]


def ranks(losses: DocumentLosses, choices: int) -> np.ndarray:
    """Rank of the right candidate of each item, ``int64 [items]``; 1 is the best, and a tie counts against it.

    Args:
        losses: of :func:`completed`.
        choices: candidates of an item.

    Raises:
        InputError: the losses are not those of whole items, or some are not finite.
    """
    if choices < 2 or len(losses) % choices or not len(losses):
        raise InputError(f"{len(losses)} losses are not those of items with {choices} candidates each")
    if not np.isfinite(losses.loss_sum).all():
        raise InputError("some candidates have no finite log-probability; the model's output is damaged")
    table = losses.loss_sum.reshape(-1, choices)
    return 1 + (table[:, 1:] <= table[:, :1]).sum(axis=1)
