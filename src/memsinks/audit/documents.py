"""The text that measurements read."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.ids import check_id


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
