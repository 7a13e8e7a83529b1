"""From pairs of like documents to groups, without chains.

Texts are nodes, numbered in the order of their hashes, so that nothing depends on the order of the input. In that order
a text becomes a representative unless it is like an earlier one; every other text joins the representative that it is
most like. All members of a group are thus like its representative themselves: A like B and B like C does not join A
and C.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from memsinks.corpus.grouping.passages import Passage, shared_passages
from memsinks.corpus.grouping.similar import candidate_pairs, resemblance, shingles

Kind: TypeAlias = Literal["alone", "representative", "copy", "near", "template"]


@dataclass(frozen=True)
class Likeness:
    """What is alike in two texts, ``a < b``.

    Attributes:
        a, b: the texts.
        jaccard: index of their runs of three words.
        shared: the smaller of the parts of their runs that both have.
    """

    a: int
    b: int
    jaccard: float
    shared: float


@dataclass(frozen=True)
class Stars:
    """Groups of texts.

    Attributes:
        representative: ``int64 [texts]``, of each; itself for a representative and for a text that is like no other.
        evidence: why a text is with its representative, by text.
    """

    representative: np.ndarray
    evidence: dict[int, Likeness]


def stars(count: int, edges: Iterable[Likeness]) -> Stars:
    """Group texts by pairs that are alike; see the module."""
    earlier: dict[int, list[Likeness]] = defaultdict(list)
    for edge in edges:
        earlier[edge.b].append(edge)
    representative, evidence = np.arange(count), {}
    for text in sorted(earlier):
        found = [edge for edge in earlier[text] if representative[edge.a] == edge.a]
        if found:
            best = max(found, key=lambda edge: (edge.shared, -edge.a))
            representative[text], evidence[text] = best.a, best
    return Stars(representative, evidence)


def likenesses(
    count: int,
    bands: Iterable[np.ndarray],
    prints: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    words: Callable[[int], np.ndarray],
    *,
    similarity: float,
    template: float,
    passage_words: int,
) -> tuple[list[Likeness], list[Passage]]:
    """Pairs of texts that are alike, and all passages that pairs of texts share.

    Candidates are pairs with an equal band key, and pairs that share a passage.

    Args:
        count: of texts.
        bands: keys of one band after the other, ``uint64 [texts]``.
        prints: hashes, texts and positions of fingerprints, in portions that hold all of equal hashes.
        words: the word hashes of a text.
        similarity, template, passage_words: see :class:`memsinks.corpus.settings.GroupConfig`.
    """
    order = np.arange(count)
    by_pair: dict[tuple[int, int], set[Passage]] = defaultdict(set)
    for hashes, texts, positions in prints:
        for found in shared_passages(hashes, texts, positions, order, words, passage_words):
            by_pair[found[0].a, found[0].b].update(found)
    pairs = sorted({*map(tuple, candidate_pairs(bands, order).tolist()), *by_pair})
    alike, last, own = [], -1, np.empty(0, np.uint64)
    for a, b in pairs:
        if a != last:
            last, own = a, shingles(words(a))
        jaccard, shared = resemblance(own, shingles(words(b)))
        if jaccard >= similarity or shared >= template:
            alike.append(Likeness(a, b, jaccard, shared))
    return alike, sorted(
        {p for found in by_pair.values() for p in found}, key=lambda p: (p.a, p.b, p.a_start, p.b_start)
    )
