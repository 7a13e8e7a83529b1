"""The text that measurements read."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.ids import check_id

WINDOW = 64
"""Tokens of a window, see :func:`in_windows`."""


@dataclass(frozen=True, eq=False)
class TokenizedDocument:
    """One document as the model reads it.

    Attributes:
        name: what reports call it.
        tokens: token IDs, int64 ``[n]``, with the begin and end markers that training used.
        sequence_id: the unsigned 64-bit ID that selects its sinks.
        scored_from: the first token whose loss counts; those before it are read as context.

    Raises:
        InputError: ``tokens`` is not one row of integers, or no token would be scored.
        SequenceIdError: ``sequence_id`` is outside uint64.
    """

    name: str
    tokens: np.ndarray
    sequence_id: int
    scored_from: int = 1

    def __post_init__(self) -> None:
        tokens = np.asarray(self.tokens)
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise InputError(
                f"document {self.name!r}: tokens must be one row of integers, not {tokens.dtype} {list(tokens.shape)}"
            )
        if self.scored_from < 1 or (self.scored_from > 1 and self.scored_from >= len(tokens)):
            raise InputError(
                f"document {self.name!r} has {len(tokens)} tokens; its loss cannot be scored from token "
                f"{self.scored_from} on"
            )
        object.__setattr__(self, "tokens", tokens.astype(np.int64))
        object.__setattr__(self, "sequence_id", check_id(self.sequence_id))


def tokenized(corpus: Corpus, indices: Iterable[int]) -> list[TokenizedDocument]:
    """Documents of a corpus by their numbers, to be scored whole."""
    return [
        TokenizedDocument(corpus.documents[i], corpus.tokens(i), int(corpus.sequence_ids[i])) for i in map(int, indices)
    ]


def in_windows(documents: list[TokenizedDocument], length: int) -> list[TokenizedDocument]:
    """Few documents as many: each window of 64 tokens is scored by itself, with what comes before it as context.

    An interval over a handful of documents is too narrow, and over one there is none.

    Args:
        documents: to be scored whole.
        length: tokens that the model sees at once; a context begins anew at each multiple.
    """
    found = []
    for document in documents:
        for start in range(0, len(document.tokens), length):
            tokens = document.tokens[start : start + length]
            for first in range(1, len(tokens), WINDOW):
                name = f"{document.name}:{start + first}"
                found.append(TokenizedDocument(name, tokens[: first + WINDOW], document.sequence_id, scored_from=first))
    return found
