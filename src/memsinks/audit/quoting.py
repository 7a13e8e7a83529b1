"""Examples for people: a model's words beside the document's, which are not told unless asked for."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from memsinks.audit.findings import Example, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARED = 3
"""Tokens in a row that are not shown of what the model wrote if they stand in a text that is not quoted."""
HASHED = 32
"""Tokens from which a hash is given: who has the hash of fewer can find them by trying."""


def example(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    given: np.ndarray,
    expected: np.ndarray,
    written: np.ndarray,
    quote: bool,
    section: str,
    measure: str,
    condition: str,
    document: str,
    texts: Sequence[np.ndarray] = (),
) -> Example:
    """An example from tokens.

    Args:
        tokenizer: of the model.
        given: ``int64 [g]``, what the model was given.
        expected: ``int64 [n]``, what the document says next.
        written: ``int64 [n]``, what the model wrote, position by position against ``expected``.
        quote: show the document's words; else they are told by their number, and by their hash from :data:`HASHED`
            tokens on. So are the model's words where they match, or have :data:`SHARED` tokens or more in a row with
            the document or ``texts``, wherever these stand.
        section, measure, condition, document: see :class:`~memsinks.audit.findings.Example`.
        texts: other documents that are not quoted, ``int64 [n]`` each.
    """
    same = np.asarray(expected) == np.asarray(written)
    hidden = same | _standing_in(written, [np.concatenate([given, expected]), *texts])
    return Example(
        section=section,
        measure=measure,
        condition=condition,
        document=document,
        given=(_passage(tokenizer, given, matching=True, quote=quote),),
        expected=tuple(
            _passage(tokenizer, expected[run], matching=bool(same[run][0]), quote=quote) for run in _runs(same)
        ),
        written=tuple(
            _passage(tokenizer, written[run], matching=bool(same[run][0]), quote=quote or not hidden[run][0])
            for run in _runs(same if quote else same.astype(int) + hidden)
        ),
    )


def _standing_in(written: np.ndarray, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Which tokens are of a run that stands in one of the texts: ``bool [n]``."""
    known = {run for text in texts for run in _neighbours(text)}
    found = np.zeros(len(written), dtype=bool)
    for start, run in enumerate(_neighbours(written)):
        if run in known:
            found[start : start + SHARED] = True
    return found


def _neighbours(tokens: np.ndarray) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[start:].tolist() for start in range(SHARED)), strict=False)


def _runs(kinds: np.ndarray) -> Iterator[slice]:
    """Neighbouring tokens of one kind, none of them empty."""
    edges = [0, *(np.flatnonzero(np.diff(kinds.astype(np.int8))) + 1).tolist(), len(kinds)]
    return (slice(start, end) for start, end in pairwise(edges) if end > start)


def _passage(tokenizer: "PreTrainedTokenizerBase", tokens: np.ndarray, *, matching: bool, quote: bool) -> Passage:
    text = str(tokenizer.decode(tokens.tolist()))
    if quote:
        return Passage(tokens=len(tokens), matching=matching, text=text)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if len(tokens) >= HASHED else None
    return Passage(tokens=len(tokens), matching=matching, sha256=digest)
