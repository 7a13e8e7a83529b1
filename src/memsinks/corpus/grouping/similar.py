"""Pairs of similar documents: found by MinHash and banding, then verified by the exact Jaccard index.

Broder 1997 ("On the resemblance and containment of documents"); banding as in Leskovec, Rajaraman and Ullman, "Mining
of Massive Datasets", section 3.4. With :data:`BANDS` bands of :data:`ROWS` rows a pair of Jaccard index J is found with
probability 1 - (1 - J^ROWS)^BANDS: 0.99 at 0.7, 0.9999 at 0.8, and 8 in a million at 0.05.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from rensa import RMinHash

from memsinks.corpus.grouping.words import mixed, runs

SHINGLE = 3
"""Words of a shingle."""
BANDS, ROWS = 25, 5
MOST_PARTNERS = 32
"""In a bucket of many documents each is compared with this number of first ones only."""
_SEED = 42


def shingles(words: np.ndarray) -> np.ndarray:
    """``uint64 [shingles]``, sorted and distinct; a text of fewer words than :data:`SHINGLE` is one shingle."""
    return np.unique(runs(words, min(SHINGLE, len(words)))) if len(words) else np.empty(0, np.uint64)


def resemblance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """How like two sets from :func:`shingles` are; 0 and 0 where either is empty.

    Returns:
        The Jaccard index, shared over all; and the smaller of the parts of either that are shared.
    """
    if not len(a) or not len(b):
        return 0.0, 0.0
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared), shared / max(len(a), len(b))


def band_keys(sets: Sequence[np.ndarray]) -> np.ndarray:
    """``uint64 [documents, BANDS]``: documents with an equal key in a band are candidates.

    A document without words has keys of its own order that no other has, so it is nobody's candidate.
    """
    if not sets:
        return np.empty((0, BANDS), np.uint64)
    offsets = np.cumsum([0, *map(len, sets)]).astype(np.uint64)
    flat = np.ascontiguousarray(np.concatenate(sets), dtype=np.uint64)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, BANDS * ROWS, _SEED).to_rows()
    signature = np.array(rows, dtype=np.uint64).reshape(len(sets), BANDS, ROWS)
    keys = np.broadcast_to(np.arange(BANDS, dtype=np.uint64), (len(sets), BANDS))
    for row in range(ROWS):
        keys = mixed(keys * np.uint64(0x9E3779B97F4A7C15) + signature[:, :, row])
    return keys


def candidates(keys: np.ndarray, order: np.ndarray, partners: int = MOST_PARTNERS) -> np.ndarray:
    """Pairs of documents with an equal key.

    Args:
        keys: ``uint64 [documents]``, of one band.
        order: ``int64 [documents]``, the rank of each document in an order that does not depend on the input's.
        partners: most documents of a bucket that each of it is paired with: the first ones in ``order``.

    Returns:
        ``int64 [pairs, 2]``, the document that is first in ``order`` first; a pair occurs once.
    """
    arranged = np.lexsort((order, keys))
    starts = np.flatnonzero(np.r_[True, keys[arranged][1:] != keys[arranged][:-1]])
    ends = np.r_[starts[1:], len(arranged)]
    position = np.arange(len(arranged))
    begin = np.repeat(starts, ends - starts)
    found = []
    for step in range(partners):
        later = position[begin + step < position]
        if not len(later):
            break
        found.append(np.stack([arranged[begin[later] + step], arranged[later]], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def candidate_pairs(bands: Iterable[np.ndarray], order: np.ndarray) -> np.ndarray:
    """``int64 [pairs, 2]``: all candidates of all bands, each pair once, the document first in ``order`` first.

    Args:
        bands: keys of one band after the other, each ``uint64 [documents]``: one is in memory at a time.
        order: as for :func:`candidates`.
    """
    found = np.empty(0, np.uint64)
    for keys in bands:
        pairs = candidates(keys, order).astype(np.uint64)
        found = np.union1d(found, (pairs[:, 0] << np.uint64(32)) | pairs[:, 1])
    return np.stack([found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)
