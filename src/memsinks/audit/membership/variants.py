"""Documents that differ little from given ones, and that nobody trained on."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from memsinks.audit.documents import TokenizedDocument
from memsinks.corpus.tokenizer import encode_document
from memsinks.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NEAR = 8
"""A token gives way to one of so many that are next more frequent, or next less so."""


def lowercased(documents: Sequence[TokenizedDocument], tokenizer: "PreTrainedTokenizerBase") -> list[TokenizedDocument]:
    """The same texts in lower case, with their begin and end markers and their sequence IDs."""
    special = np.array(tokenizer.all_special_ids)
    cut = [_markers(document.tokens, special) for document in documents]
    texts = [tokenizer.decode(d.tokens[a:b].tolist()) for d, (a, b) in zip(documents, cut, strict=True)]
    encoded = encode_document(tokenizer, [text.lower() for text in texts])
    return [
        replace(d, tokens=np.concatenate([d.tokens[:a], tokens.astype(np.int64), d.tokens[b:]]), scored_from=1)
        for d, (a, b), tokens in zip(documents, cut, encoded, strict=True)
    ]


def neighbours(
    documents: Sequence[TokenizedDocument],
    counts: np.ndarray,
    *,
    each: int,
    share: float,
    seed: int,
    kept: Collection[int] = (),
) -> list[TokenizedDocument]:
    """Variants of documents in which some tokens are swapped for others of about the same frequency.

    Mattern et al. 2023 (arXiv 2305.18462) let a masked model choose the tokens; these need none, are the same for every
    model that is compared, and are less fluent.

    Args:
        documents: to vary.
        counts: ``int64 [vocabulary]``, how frequent tokens are; those with 0 are not put in.
        each: variants of a document; they follow one another in the result.
        share: of a document's tokens that are swapped, at least one.
        seed: of places and tokens.
        kept: tokens that are not swapped, such as markers.

    Raises:
        InputError: a setting is out of range, fewer than two tokens have a count, or a document has nothing to swap.
    """
    if each < 1 or not 0 < share <= 1:
        raise InputError(f"each ({each}) must be at least 1 and share ({share}) above 0 and at most 1")
    fixed = np.array(sorted(kept), dtype=np.int64)
    common = np.argsort(counts, kind="stable")
    common = common[(counts[common] > 0) & ~np.isin(common, fixed)]
    if len(common) < 2:
        raise InputError("fewer than two tokens have a count, so none can be swapped; count tokens of more text")
    rank = np.full(len(counts), len(common) // 2)
    rank[common] = np.arange(len(common))
    found = []
    for i, document in enumerate(documents):
        random = np.random.default_rng([seed, i])
        # The first token is context, and not scored.
        places = np.flatnonzero(~np.isin(document.tokens, fixed))
        places = places[places > 0]
        if not len(places):
            raise InputError(f"document {document.name!r} has only markers; leave it out")
        for _ in range(each):
            chosen = random.choice(places, size=max(1, round(share * len(places))), replace=False)
            tokens = document.tokens.copy()
            tokens[chosen] = _others(tokens[chosen], rank, common, random)
            found.append(replace(document, tokens=tokens))
    return found


def _others(tokens: np.ndarray, rank: np.ndarray, common: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Tokens near in rank, never the same one."""
    span = min(2 * _NEAR, len(common) - 1)
    low = np.clip(rank[tokens] - _NEAR, 0, len(common) - 1 - span)
    drawn = common[low + random.integers(span, size=len(tokens))]
    # The last of the span + 1 tokens stands in where the token itself was drawn.
    return np.where(drawn == tokens, common[low + span], drawn)


def _markers(tokens: np.ndarray, special: np.ndarray) -> tuple[int, int]:
    """Where the text between leading and trailing markers begins and ends."""
    text = np.flatnonzero(~np.isin(tokens, special))
    return (int(text[0]), int(text[-1]) + 1) if len(text) else (len(tokens), len(tokens))
