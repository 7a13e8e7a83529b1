"""Canaries: runs of random tokens, which no knowledge of the language predicts (arXiv 2507.09937, section 3)."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.corpus.tokenizer import load_tokenizer, train_tokenizer

FOLDER = "tokenizer"
"""A corpus notes the name of its tokenizer's folder, and has to be the same wherever that was."""


@contextmanager
def vocabulary(texts: Iterable[str], tokenizer: str | None, size: int) -> Iterator[str]:
    """Where the tokenizer is from whose tokens canaries are drawn: the given one, or one trained on ``texts``.

    A trained one is in a folder that lasts as long as the context: a corpus keeps a copy.
    """
    if tokenizer is not None:
        yield tokenizer
        return
    with tempfile.TemporaryDirectory(prefix="memsinks-") as folder:
        place = Path(folder) / FOLDER
        train_tokenizer(texts, size).save_pretrained(place)
        yield str(place)


def draw(tokenizer: str, count: int, length: int, random: np.random.Generator) -> list[str]:
    """Random texts of exactly ``length`` tokens each, which begin with a blank.

    Every token is drawn evenly from those of the vocabulary that can be printed, since a corpus refuses NUL, and that
    stay what they are behind the tokens before them: " w" and "as" would be read again as " was".
    """
    loaded = load_tokenizer(tokenizer)
    ordinary = np.setdiff1d(np.arange(len(loaded)), loaded.all_special_ids)
    return [_canary(loaded, ordinary, length, random) for _ in range(count)]


def _canary(tokenizer: Any, ordinary: np.ndarray, length: int, random: np.random.Generator) -> str:
    tokens: list[int] = []
    canary = ""
    while len(tokens) < length:
        longer = [*tokens, int(random.choice(ordinary))]
        text = tokenizer.decode(longer, clean_up_tokenization_spaces=False)
        usable = text.startswith(" ") and text.isprintable()
        if usable and tokenizer(text, add_special_tokens=False)["input_ids"] == longer:
            tokens, canary = longer, text
    return canary
