"""A text as hashes of its words, which case, punctuation, blanks and line breaks do not change."""

import functools
import hashlib
import re
import unicodedata

import numpy as np

# Scripts written without blanks: each of their characters is a word.
_SINGLE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def word_hashes(text: str) -> np.ndarray:
    """``uint64 [words]``: one hash for each run of letters and digits, or for each character of Chinese and Japanese.

    Words that Unicode holds compatible (NFKC), in any case, have one hash.
    """
    return np.fromiter((_hash(match.group()) for match in _WORD.finditer(text)), np.uint64)


def word_spans(text: str) -> np.ndarray:
    """``int64 [words, 2]``: where each word begins and ends, in characters."""
    found = [match.span() for match in _WORD.finditer(text)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def runs(words: np.ndarray, length: int) -> np.ndarray:
    """``uint64 [words - length + 1]``: a hash of every run of ``length`` words, in order; empty for a shorter text."""
    count = len(words) - length + 1
    if count < 1:
        return np.empty(0, np.uint64)
    found = np.zeros(count, np.uint64)
    for offset in range(length):
        found = found * _FACTOR + words[offset : offset + count]
    return mixed(found)


def mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every bit of a value reaches every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@functools.lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    normal = unicodedata.normalize("NFKC", word).casefold()
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8, person=b"memsinks/word").digest(), "little")
