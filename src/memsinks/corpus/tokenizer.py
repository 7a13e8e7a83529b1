"""Load a tokenizer, train one, and encode documents without markers."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from memsinks.errors import InputError

END_OF_TEXT = "<|endoftext|>"
"""The only special token of a trained tokenizer: begins, ends and pads."""

LONG = 1 << 20
"""Characters from which on a text is encoded piece by piece."""
_CONTEXT, _CUTS = 256, 100
_BLANK = re.compile(r"(?<=\S)\s")

MIN_VOCAB_SIZE = 257
"""All bytes and one special token."""


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer from a folder or by name.

    Raises:
        InputError: there is no tokenizer there.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except Exception as error:  # the library raises OSError, ValueError, KeyError and more
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: no tokenizer can be loaded from here ({first_line}); give a folder with tokenizer.json, or "
            "train one by giving a vocabulary size"
        ) from error
    if not len(tokenizer):
        raise InputError(f"{path}: the tokenizer has no vocabulary; give a folder with tokenizer.json")
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; the same texts, in any order, give the same tokenizer.

    Args:
        texts: training text.
        vocab_size: largest number of tokens, the 256 bytes and ``<|endoftext|>`` included; little text gives fewer.

    Returns:
        A tokenizer whose begin, end and padding tokens are all ``<|endoftext|>``, and that loses no byte.

    Raises:
        InputError: ``vocab_size`` is below 257.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise InputError(f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least {MIN_VOCAB_SIZE}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def encode_document(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[np.ndarray]:
    """Encode texts in one batch, without begin or end markers.

    The names of special tokens that occur in a text are encoded as plain text, so no document can end itself.

    Returns:
        One ``uint32`` array of token IDs for each text.
    """
    short = [text for text in texts if len(text) <= LONG]
    encoded = iter(_encode(tokenizer, short) if short else [])
    return [next(encoded) if len(text) <= LONG else _encode_long(tokenizer, text) for text in texts]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[np.ndarray]:
    if tokenizer.is_fast:
        # Half as fast again as a call of the tokenizer, which keeps the places of tokens in the text.
        with _bare(tokenizer.backend_tokenizer) as backend:
            found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.uint32) for encoding in found]
    options: dict[str, Any] = {"padding": False, "truncation": False, "return_attention_mask": False}
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False, **options)[
        "input_ids"
    ]
    return [np.asarray(ids, dtype=np.uint32) for ids in encoded]


@contextmanager
def _bare(backend: Tokenizer) -> Iterator[Tokenizer]:
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


def _encode_long(tokenizer: PreTrainedTokenizerBase, text: str) -> np.ndarray:
    """A long text, piece by piece, since a tokenizer takes many times its size in memory.

    It is cut only where the text around the cut gives the same tokens whole and in two, so that the pieces give the
    tokens of the whole: tokenizers look no further than a word, a few hundred characters at most.
    """

    def fits(cut: int) -> bool:
        before, after = text[max(0, cut - _CONTEXT) : cut], text[cut : cut + _CONTEXT]
        whole, *parts = _encode(tokenizer, [before + after, before, after])
        return np.array_equal(whole, np.concatenate(parts))

    return np.concatenate([tokens for piece in _pieces(text, fits) for tokens in _encode(tokenizer, [piece])])


def _pieces(text: str, fits: Callable[[int], bool] = lambda cut: True) -> Iterator[str]:
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
