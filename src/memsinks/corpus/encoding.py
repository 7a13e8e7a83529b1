"""Texts to token IDs, without markers: in pieces where these give the tokens of the whole.

A tokenizer takes many times the size of a text in memory, and encodes short ones faster.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

Encode: TypeAlias = Callable[[Sequence[str]], list[np.ndarray]]
"""One ``uint32`` array of token IDs for each text."""

LONG = 1 << 20
"""Characters from which on a text is encoded in pieces, whatever the tokenizer."""
SHORT = 1 << 12
"""Characters of a piece, for tokenizers that split at blanks."""
_TOGETHER = 64
"""Pieces of a batch."""
_CONTEXT, _CUTS = 256, 100
_BLANK = re.compile(r"(?<=\S)\s")
_LETTER = "[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u03b1-\u03c9\u0400-\u0481]"
_BETWEEN_WORDS = re.compile(f"(?<={_LETTER}) (?={_LETTER})")


def fast(backend: Tokenizer) -> Encode:
    """How a tokenizer of the tokenizers library encodes, prepared as :func:`bare` does."""

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        # Half as fast again as transformers' call, which keeps the places of tokens in the text.
        found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.uint32) for encoding in found]

    return encode


@contextmanager
def bare(backend: Tokenizer) -> Iterator[Tokenizer]:
    """The tokenizer without truncation, padding and special tokens; after that as it was."""
    truncation, padding, special = backend.truncation, backend.padding, backend.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    try:
        yield backend
    finally:
        backend.encode_special_tokens = special
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


def splits_at_blanks(backend: Tokenizer) -> bool:
    """Whether a text cut before a blank between two letters is sure to have the tokens of the whole.

    So it is for byte-level BPE with GPT-2's pattern, of which no alternative has a blank after a letter or looks back,
    as long as nothing else looks at the text: a normaliser, or an added token that is not special.
    """
    model = backend.model
    splitter: Any = backend.pre_tokenizer
    is_sequence = isinstance(splitter, pre_tokenizers.Sequence)
    steps = list(splitter) if is_sequence else [splitter]
    return (
        isinstance(model, models.BPE)
        and not model.dropout
        and backend.normalizer is None
        and isinstance(steps[-1], pre_tokenizers.ByteLevel)
        and steps[-1].use_regex
        and not steps[-1].add_prefix_space
        and all(isinstance(step, pre_tokenizers.Digits) for step in steps[:-1])
        and all(token.special for token in backend.get_added_tokens_decoder().values())
    )


def encode_texts(encode: Encode, texts: Sequence[str], *, at_blanks: bool) -> list[np.ndarray]:
    """Encode texts, in pieces where that is safe.

    Args:
        encode: encodes a batch.
        texts: the texts.
        at_blanks: what :func:`splits_at_blanks` says.

    Returns:
        One ``uint32`` array of token IDs for each text.
    """
    parts = [list(_words(text)) if at_blanks and len(text) > SHORT else [text] for text in texts]
    batch = [part for own in parts for part in own if len(part) <= LONG]
    step = _TOGETHER if at_blanks else max(1, len(batch))
    encoded = (tokens for i in range(0, len(batch), step) for tokens in encode(batch[i : i + step]))
    found = [[next(encoded) if len(part) <= LONG else _encode_long(encode, part) for part in own] for own in parts]
    return [own[0] if len(own) == 1 else np.concatenate(own) for own in found]


def _encode_long(encode: Encode, text: str) -> np.ndarray:
    """A long text, piece by piece.

    It is cut only where the text around the cut gives the same tokens whole and in two, so that the pieces give the
    tokens of the whole: tokenizers look no further than a word, a few hundred characters at most.
    """

    def fits(cut: int) -> bool:
        before, after = text[max(0, cut - _CONTEXT) : cut], text[cut : cut + _CONTEXT]
        whole, *parts = encode([before + after, before, after])
        return np.array_equal(whole, np.concatenate(parts))

    return np.concatenate([tokens for piece in pieces(text, fits) for tokens in encode([piece])])


def pieces(text: str, fits: Callable[[int], bool] = lambda cut: True) -> Iterator[str]:
    """The text cut before blanks, into pieces of about :data:`LONG` characters; ``fits`` says where it may be cut."""
    start = 0
    while len(text) - start > LONG:
        found = (match.start() for match in _BLANK.finditer(text, start + LONG))
        cut = next((place for place in itertools.islice(found, _CUTS) if fits(place)), None)
        if cut is None:
            break
        yield text[start:cut]
        start = cut
    yield text[start:]


def _words(text: str) -> Iterator[str]:
    """The text cut before blanks between letters, into pieces of about :data:`SHORT` characters."""
    start = 0
    while len(text) - start > SHORT and (cut := _BETWEEN_WORDS.search(text, start + SHORT)):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]
