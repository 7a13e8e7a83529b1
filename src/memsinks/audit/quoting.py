"""Examples for people: a model's words beside the document's, which are told by hash unless asked for."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from memsinks.audit.findings import Example, Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
) -> Example:
    """An example from tokens.

    Args:
        tokenizer: of the model.
        given: ``int64 [g]``, what the model was given.
        expected: ``int64 [n]``, what the document says next.
        written: ``int64 [n]``, what the model wrote, position by position against ``expected``.
        quote: show the document's words; else they are told by their hash, in the model's words too where these match.
        section, measure, condition, document: see :class:`~memsinks.audit.findings.Example`.
    """
    same = np.asarray(expected) == np.asarray(written)
    return Example(
        section=section,
        measure=measure,
        condition=condition,
        document=document,
        given=(_passage(tokenizer, given, matching=True, quote=quote),),
        expected=tuple(_passage(tokenizer, part, matching=m, quote=quote) for part, m in _runs(expected, same)),
        written=tuple(_passage(tokenizer, part, matching=m, quote=quote or not m) for part, m in _runs(written, same)),
    )


def _runs(tokens: np.ndarray, same: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
    """Neighbouring tokens that all match, or all do not."""
    edges = np.flatnonzero(np.diff(same.astype(np.int8))) + 1
    for part in np.split(np.arange(len(tokens)), edges):
        if len(part):
            yield tokens[part], bool(same[part[0]])


def _passage(tokenizer: "PreTrainedTokenizerBase", tokens: np.ndarray, *, matching: bool, quote: bool) -> Passage:
    text = str(tokenizer.decode(tokens.tolist()))
    if quote:
        return Passage(tokens=len(tokens), matching=matching, text=text)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Passage(tokens=len(tokens), matching=matching, sha256=digest)
