"""How like a text is to what a model wrote; each measure is 0 where nothing matches."""

from collections.abc import Sequence

import numpy as np

from memsinks.errors import InputError, MemsinksError

_INSTALL = 'pip install "memsinks[audit]"'


def longest_run(written: Sequence[int] | np.ndarray, document: Sequence[int] | np.ndarray) -> int:
    """Most tokens in a row that stand in both, wherever they stand."""
    own = np.asarray(document)
    ending = np.zeros(len(own) + 1, dtype=np.int64)
    longest = 0
    for token in np.asarray(written):
        # ending[j + 1] becomes the length of the run that ends with this token and with the document's j-th.
        ending[1:] = np.where(own == token, ending[:-1] + 1, 0)
        longest = max(longest, int(ending.max()))
    return longest


def longest_common_subsequence(written: Sequence[int] | np.ndarray, expected: Sequence[int] | np.ndarray) -> int:
    """Most tokens that stand in both in the same order, with gaps.

    Raises:
        MemsinksError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError as error:
        raise MemsinksError(f"the longest common subsequence needs rapidfuzz: {_INSTALL}") from error
    return int(LCSseq.similarity(_listed(written), _listed(expected)))


def edit_similarity(written: Sequence[int] | np.ndarray, expected: Sequence[int] | np.ndarray) -> float:
    """1 less the token edits (Levenshtein 1966) from one to the other, over the tokens of the longer.

    Raises:
        InputError: both are empty.
        MemsinksError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise MemsinksError(f"edit similarity needs rapidfuzz: {_INSTALL}") from error
    if not len(written) and not len(expected):
        raise InputError("edit similarity of nothing with nothing is not defined; pass at least one token")
    return float(Levenshtein.normalized_similarity(_listed(written), _listed(expected)))


def bleu(written: str, expected: str) -> float:
    """BLEU of one text against one other, 0 to 1 (Papineni et al. 2002; sacrebleu, Post 2018, arXiv 1804.08771).

    Up to four words in a row count, or fewer where the text is shorter (effective order), with sacrebleu's default
    tokenisation and exponential smoothing. Without a word in common it is 0.

    Raises:
        InputError: the expected text has no words.
        MemsinksError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise MemsinksError(f"BLEU needs sacrebleu: {_INSTALL}") from error
    if not expected.strip():
        raise InputError("BLEU against a text without words is not defined; pass one with words")
    return float(BLEU(effective_order=True).sentence_score(written, [expected]).score) / 100


def _listed(tokens: Sequence[int] | np.ndarray) -> list[int]:
    return [int(t) for t in tokens]
