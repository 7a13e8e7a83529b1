"""Load a tokenizer, train one, and encode documents without markers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from memsinks.corpus.encoding import Encode, bare, encode_texts, fast, pieces, splits_at_blanks
from memsinks.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
"""The only special token of a trained tokenizer: begins, ends and pads."""

MIN_VOCAB_SIZE = 257
"""All bytes and one special token."""


def load_tokenizer(path: Path | str) -> "PreTrainedTokenizerBase":
    """Load a Hugging Face tokenizer from a folder or by name.

    Raises:
        InputError: there is no tokenizer there.
    """
    try:
        tokenizer = _loader(Path(path)).from_pretrained(str(path))
    except Exception as error:  # the library raises OSError, ValueError, KeyError and more
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: no tokenizer can be loaded from here ({first_line}); give a folder with tokenizer.json, or "
            "train one by giving a vocabulary size"
        ) from error
    if not len(tokenizer):
        raise InputError(f"{path}: the tokenizer has no vocabulary; give a folder with tokenizer.json")
    return tokenizer


def _loader(path: Path) -> Any:
    """The class that loads a tokenizer.

    ``AutoTokenizer`` imports torch, which takes seconds, only to find the general class for a folder that names it.
    """
    try:
        config = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
        general = config["tokenizer_class"] == "TokenizersBackend" and "auto_map" not in config
    except (OSError, ValueError, KeyError, TypeError):
        general = False
    if general and (path / "tokenizer.json").is_file() and not (path / "config.json").exists():
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE tokenizer; the same texts, in any order, give the same tokenizer.

    Args:
        texts: training text.
        vocab_size: largest number of tokens, the 256 bytes and ``<|endoftext|>`` included; little text gives fewer.

    Returns:
        A tokenizer whose begin, end and padding tokens are all ``<|endoftext|>``, and that loses no byte.

    Raises:
        InputError: ``vocab_size`` is below 257.
    """
    from transformers import PreTrainedTokenizerFast

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
    tokenizer.train_from_iterator((piece for text in texts for piece in pieces(text)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def encode_document(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[np.ndarray]:
    """Encode texts in one batch, without begin or end markers.

    The names of special tokens that occur in a text are encoded as plain text, so no document can end itself.

    Returns:
        One ``uint32`` array of token IDs for each text.
    """
    if not tokenizer.is_fast:
        return encode_texts(slow(tokenizer), texts, at_blanks=False)
    with bare(tokenizer.backend_tokenizer) as backend:
        return encode_texts(fast(backend), texts, at_blanks=splits_at_blanks(backend))


def slow(tokenizer: "PreTrainedTokenizerBase") -> Encode:
    """How a tokenizer written in Python encodes."""
    options: dict[str, Any] = {"padding": False, "truncation": False, "return_attention_mask": False}

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False, **options)[
            "input_ids"
        ]
        return [np.asarray(ids, dtype=np.uint32) for ids in encoded]

    return encode
