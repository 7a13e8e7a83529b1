"""Passages that documents share word for word, whatever case and punctuation: copied clauses, quotes, templates.

Fingerprints are chosen by winnowing (Schleimer, Wilkerson and Aiken 2003): of every window of runs the least hash, so
that two texts that share at least ``length`` words in a row share a fingerprint, whatever stands around it. Each shared
fingerprint is extended to the longest match on the words themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from memsinks.corpus.grouping.similar import candidates
from memsinks.corpus.grouping.words import runs

RUN = 8
"""Words under one fingerprint."""
MOST_PARTNERS = 16


@dataclass(frozen=True)
class Passage:
    """So many words of document ``a`` from ``a_start`` on are those of document ``b`` from ``b_start`` on."""

    a: int
    a_start: int
    b: int
    b_start: int
    words: int


def fingerprints(words: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and positions, ``uint64`` and ``uint32`` ``[fingerprints]``, in order of position.

    Args:
        words: hashes of a document's words.
        length: words in a row from which on a shared passage is certain to be found; at least :data:`RUN`.
    """
    hashes = runs(words, RUN)
    window = length - RUN + 1
    if len(hashes) < window:
        return np.empty(0, np.uint64), np.empty(0, np.uint32)
    view = np.lib.stride_tricks.sliding_window_view(hashes, window)
    # Blocks bound the memory that argmin needs for a long document.
    least = [
        view[start : start + 65_536].argmin(axis=1) + np.arange(start, min(start + 65_536, len(view)))
        for start in range(0, len(view), 65_536)
    ]
    positions = np.unique(np.concatenate(least))
    return hashes[positions], positions.astype(np.uint32)


def shared_passages(
    hashes: np.ndarray,
    documents: np.ndarray,
    positions: np.ndarray,
    order: np.ndarray,
    words: Callable[[int], np.ndarray],
    length: int,
) -> Iterator[list[Passage]]:
    """All passages of at least ``length`` words that pairs of documents share; one list for each pair that has any.

    Args:
        hashes, documents, positions: of all fingerprints, ``[fingerprints]``.
        order: ``int64 [documents]``, the rank of each document in an order that does not depend on the input's.
        words: the word hashes of a document.
        length: least words.

    A fingerprint of many documents pairs each with the first :data:`MOST_PARTNERS` of them.
    """
    pairs = candidates(hashes, order[documents], MOST_PARTNERS)
    a, b = documents[pairs[:, 0]], documents[pairs[:, 1]]
    different = a != b
    pairs, a, b = pairs[different], a[different], b[different]
    hits = np.stack([a, b, positions[pairs[:, 0]], positions[pairs[:, 1]]], axis=1).astype(np.int64)
    hits = hits[np.lexsort(hits.T[::-1])]
    if not len(hits):
        return
    for some in np.split(hits, np.flatnonzero((hits[1:, :2] != hits[:-1, :2]).any(axis=1)) + 1):
        first, second = map(int, some[0, :2])
        if found := _matches(first, second, words(first), words(second), some[:, 2:], length):
            yield found


def _matches(a: int, b: int, a_words: np.ndarray, b_words: np.ndarray, hits: np.ndarray, length: int) -> list[Passage]:
    found = []
    reached: dict[int, int] = {}
    for i, j in hits.tolist():
        # Along one diagonal the matches are disjoint, and the hits come in the order of their place in a.
        if i < reached.get(i - j, 0):
            continue
        back = _equal(a_words[:i][::-1], b_words[:j][::-1])
        ahead = _equal(a_words[i:], b_words[j:])
        reached[i - j] = i + ahead
        if back + ahead >= length:
            found.append(Passage(a, i - back, b, j - back, back + ahead))
    return found


def _equal(a: np.ndarray, b: np.ndarray) -> int:
    """Leading entries that agree."""
    limit, start, step = min(len(a), len(b)), 0, 64
    while start < limit:
        stop = min(start + step, limit)
        differ = np.flatnonzero(a[start:stop] != b[start:stop])
        if len(differ):
            return start + int(differ[0])
        start, step = stop, 2 * step
    return limit
