"""From pairs of like documents to groups, without chains.

Texts are nodes, numbered in the order of their hashes, so that nothing depends on the order of the input. In that order
a text becomes a representative unless it is like an earlier one; every other text joins the representative that it is
most like. All members of a group are thus like its representative themselves: A like B and B like C does not join A
and C.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from memsinks.corpus.grouping.passages import Passage, covered, shared_passages
from memsinks.corpus.grouping.similar import similar_pairs

Kind: TypeAlias = Literal["alone", "representative", "copy", "near", "template"]
KINDS: tuple[Kind, ...] = ("alone", "representative", "copy", "near", "template")


@dataclass(frozen=True)
class Likeness:
    """What is alike in two texts, ``a < b``.

    Attributes:
        a, b: the texts.
        jaccard: over runs of three words, where it reached the threshold; else 0.
        shared: the smaller of the parts of their words that shared passages hold; 0 where there are none.
    """

    a: int
    b: int
    jaccard: float = 0.0
    shared: float = 0.0

    @property
    def degree(self) -> float:
        """By which texts choose their representative."""
        return max(self.jaccard, self.shared)


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
            best = max(found, key=lambda edge: (edge.degree, -edge.a))
            representative[text], evidence[text] = best.a, best
    return Stars(representative, evidence)


def likenesses(
    count: int,
    bands: Iterator[np.ndarray],
    prints: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    words: Callable[[int], np.ndarray],
    lengths: np.ndarray,
    *,
    similarity: float,
    template: float,
    passage_words: int,
) -> tuple[list[Likeness], list[Passage]]:
    """Pairs of texts that are alike, and all passages that pairs of texts share.

    Args:
        count: of texts.
        bands: keys of one band after the other, ``uint64 [texts]``.
        prints: hashes, texts and positions of fingerprints, in portions that hold all of equal hashes.
        words: the word hashes of a text.
        lengths: ``int64 [texts]``, its words.
        similarity, template, passage_words: see :class:`memsinks.corpus.settings.GroupConfig`.
    """
    order = np.arange(count)
    found = {(a, b): Likeness(a, b, value) for a, b, value in similar_pairs(bands, order, words, similarity)}
    by_pair: dict[tuple[int, int], set[Passage]] = defaultdict(set)
    for hashes, texts, positions in prints:
        for passages in shared_passages(hashes, texts, positions, order, words, passage_words):
            by_pair[passages[0].a, passages[0].b].update(passages)
    everything: list[Passage] = []
    for (a, b), shared in sorted(by_pair.items()):
        passages = sorted(shared, key=lambda p: (p.a_start, p.b_start))
        everything += passages
        part = min(covered(passages, "a") / lengths[a], covered(passages, "b") / lengths[b])
        near = found.get((a, b))
        if part >= template or near is not None:
            found[a, b] = Likeness(a, b, 0.0 if near is None else near.jaccard, part)
    return list(found.values()), everything
