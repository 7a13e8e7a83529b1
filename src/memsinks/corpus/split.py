"""Which documents are held out: whole groups of documents that belong together, never a copy of a training one."""

import hashlib
import unicodedata
from collections.abc import Hashable, Sequence

import numpy as np

from memsinks.errors import InputError


def text_hash(text: str) -> bytes:
    """16 bytes that two texts share if they differ only in case, blanks and Unicode compatibility forms."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    normal = " ".join(text.casefold().split())
    return hashlib.blake2b(normal.encode(), digest_size=16, person=b"memsinks/text").digest()


def components(links: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """Connected components of documents, two of which are linked if any column of ``links`` has the same key for both.

    Args:
        links: columns of equal length, one key a document.

    Returns:
        ``int64`` ``[documents]``: for each document the index of the first one in its component.
    """
    parent = list(range(len(links[0])))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in links:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(column):
            a, b = root(first.setdefault(key, i)), root(i)
            parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(parent))], dtype=np.int64)


def hold_out(component: np.ndarray, hashes: Sequence[bytes], *, fraction: float, seed: int) -> np.ndarray:
    """Choose whole components for validation, independently of the order of the documents.

    Components are taken in the order of a hash of ``seed`` and the smallest of their ``hashes``. One that would
    exceed the wanted number of documents, ``max(1, round(fraction * documents))``, or leave nothing to train on, is
    passed over, so large components are held out less often than small ones.

    Args:
        component: ``[documents]``, as from :func:`components`.
        hashes: :func:`text_hash` of each document.
        fraction: share of the documents to hold out, in ``[0, 1)``.
        seed: names one of the possible choices.

    Returns:
        ``bool`` ``[documents]``, true for validation.

    Raises:
        InputError: ``fraction`` is positive and no component fits.
    """
    held_out = np.zeros(len(component), dtype=bool)
    if fraction == 0:
        return held_out
    members: dict[int, list[int]] = {}
    for i, c in enumerate(component.tolist()):
        members.setdefault(c, []).append(i)
    wanted = min(max(1, round(fraction * len(component))), len(component) - 1)

    def rank(indices: list[int]) -> bytes:
        smallest = min(hashes[i] for i in indices)
        return hashlib.blake2b(smallest, key=f"memsinks/split/{seed}".encode()[:64], digest_size=16).digest()

    taken = 0
    for indices in sorted(members.values(), key=rank):
        if taken + len(indices) <= wanted:
            held_out[indices] = True
            taken += len(indices)
    if not taken:
        if len(members) == 1:
            raise InputError(
                f"all {len(component)} document(s) belong together, so none can be held out; set validation_fraction "
                "to 0 for no validation split, or add documents"
            )
        smallest = min(map(len, members.values()))
        raise InputError(
            f"validation_fraction={fraction} of {len(component)} documents is {wanted}, but the smallest group of "
            f"documents that belong together has {smallest}; raise validation_fraction to "
            f"{smallest / len(component):.2g} or more, or set it to 0 for no validation split"
        )
    return held_out
