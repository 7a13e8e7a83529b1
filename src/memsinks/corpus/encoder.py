"""A tokenizer as the tasks of a preparation use it: kept in a file that is read without transformers, and once."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from memsinks.corpus.encoding import Encode, encode_texts, fast, splits_at_blanks
from memsinks.corpus.tokenizer import load_tokenizer, slow

FOLDER, _FILE = "tokenizer", "encoder.json"


@dataclass(frozen=True)
class Encoder:
    """Encodes texts without markers, as :func:`memsinks.corpus.encode_document` does.

    Attributes:
        bos, eos: the markers, of one token or none.
        size: tokens that the tokenizer knows.
    """

    bos: tuple[int, ...]
    eos: tuple[int, ...]
    size: int
    _encode: Encode = field(repr=False)
    _at_blanks: bool = field(repr=False)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One ``uint32`` array of token IDs for each text."""
        return encode_texts(self._encode, texts, at_blanks=self._at_blanks)


def save_encoder(folder: Path) -> None:
    """Write the file for the tokenizer that was saved in ``folder / FOLDER``."""
    tokenizer = load_tokenizer(folder / FOLDER)
    content = {
        "bos": _marker(tokenizer.bos_token_id),
        "eos": _marker(tokenizer.eos_token_id),
        "size": len(tokenizer),
        # As transformers loads it, which is not always as its file says.
        "backend": tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else None,
    }
    (folder / _FILE).write_text(json.dumps(content), encoding="utf-8")


def load_encoder(folder: Path) -> Encoder:
    """Read what :func:`save_encoder` wrote."""
    return _load((folder / _FILE).read_text(encoding="utf-8"), folder / FOLDER)


@functools.lru_cache(maxsize=1)
def _load(content: str, folder: Path) -> Encoder:
    found = json.loads(content)
    if found["backend"] is None:
        encode, at_blanks = slow(load_tokenizer(folder)), False
    else:
        backend = Tokenizer.from_str(found["backend"])
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        encode, at_blanks = fast(backend), splits_at_blanks(backend)
    return Encoder(tuple(found["bos"]), tuple(found["eos"]), found["size"], encode, at_blanks)


def _marker(token: int | None) -> list[int]:
    return [] if token is None else [token]
