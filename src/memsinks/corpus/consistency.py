"""How far the IDs of a corpus can be trusted: text that occurs under several, and IDs that stand for several sources.

A document whose near-copy has another ID is learned under both, so that removing one leaves the other. In training that
is noise of IDs, whose effect on removal the ablation ``id-noise`` measures (see ``docs/experiments.md``).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from memsinks import ids
from memsinks.corpus.corpus import Corpus
from memsinks.corpus.stages.finish import GROUPS, PASSAGES
from memsinks.errors import InputError


@dataclass(frozen=True)
class Torn:
    """A group whose documents have several sequence IDs.

    Attributes:
        representative: of the group.
        documents: of the group, by sequence ID, in 16 hexadecimal digits; the ID of most tokens first.
        strays: tokens under other IDs than that.
    """

    representative: str
    documents: dict[str, list[str]]
    strays: int


@dataclass(frozen=True)
class Consistency:
    """What can go wrong with the IDs of training documents.

    Attributes:
        ids: what documents share to share one.
        documents, tokens: of the training split.
        torn: groups with several IDs, those with most stray tokens first.
        stray_share: stray tokens over all: the share of the text that trains under another ID than most of its copies.
        spanning: sequence IDs of documents of several sources, with these: removing one source takes from the others.
        variants: names of sources that differ only in case, blanks and punctuation.
        without_source: documents whose source is unknown.
        passages_across: pairs of documents with different IDs that share a passage, though of different groups.
        collision: chance that two of the IDs are equal by accident.
    """

    ids: str
    documents: int
    tokens: int
    torn: list[Torn]
    stray_share: float
    spanning: dict[str, list[str]]
    variants: list[list[str]]
    without_source: int
    passages_across: int
    collision: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **{key: value for key, value in vars(self).items() if key != "torn"},
            "torn": [vars(group) for group in self.torn],
        }


def consistency(corpus: Corpus) -> Consistency:
    """Examine the sequence IDs of the training documents, as the corpus was opened.

    Raises:
        InputError: the corpus was prepared before groups were kept.
    """
    if not (corpus.path / GROUPS).is_file():
        raise InputError(f"{corpus.place}: has no {GROUPS}; prepare the corpus again with this version of memsinks")
    training = np.flatnonzero(~corpus.is_validation)
    torn = _torn(corpus, training)
    tokens = int(corpus.lengths[training].sum())
    distinct = len(np.unique(corpus.sequence_ids[training]))
    return Consistency(
        ids=corpus.ids or corpus.manifest["config"]["identity"],
        documents=len(training),
        tokens=tokens,
        torn=torn,
        stray_share=sum(group.strays for group in torn) / max(1, tokens),
        spanning=_spanning(corpus, training),
        variants=_variants(corpus, training),
        without_source=sum(corpus.sources[i] is None for i in training.tolist()),
        passages_across=_passages_across(corpus),
        collision=ids.collision_probability(distinct),
    )


def _torn(corpus: Corpus, training: np.ndarray) -> list[Torn]:
    groups = corpus.group_ids[training]
    order = np.argsort(groups, kind="stable")
    found = []
    representatives = dict(zip(*_columns(corpus, "group_id", "representative"), strict=True))
    starts = np.flatnonzero(np.r_[True, groups[order][1:] != groups[order][:-1]])
    for members in np.split(training[order], starts[1:]):
        by_id: dict[int, list[int]] = defaultdict(list)
        for i in members.tolist():
            by_id[int(corpus.sequence_ids[i])].append(i)
        if len(by_id) < 2:
            continue
        sizes = {i: int(corpus.lengths[own].sum()) for i, own in by_id.items()}
        ranked = sorted(by_id, key=lambda i: (-sizes[i], i))
        documents = {ids.format_id(i): [corpus.documents[d] for d in by_id[i]] for i in ranked}
        representative = representatives[int(corpus.group_ids[members[0]])]
        found.append(Torn(representative, documents, sum(sizes[i] for i in ranked[1:])))
    return sorted(found, key=lambda group: (-group.strays, group.representative))


def _spanning(corpus: Corpus, training: np.ndarray) -> dict[str, list[str]]:
    sources: dict[int, set[str]] = defaultdict(set)
    for i in training.tolist():
        if (source := corpus.sources[i]) is not None:
            sources[int(corpus.sequence_ids[i])].add(source)
    return {ids.format_id(i): sorted(names) for i, names in sorted(sources.items()) if len(names) > 1}


def _variants(corpus: Corpus, training: np.ndarray) -> list[list[str]]:
    spelled: dict[str, set[str]] = defaultdict(set)
    for source in {corpus.sources[i] for i in training.tolist()} - {None}:
        assert source is not None
        spelled["".join(c for c in source.casefold() if c.isalnum()) or source].add(source)
    return sorted(sorted(names) for names in spelled.values() if len(names) > 1)


def _passages_across(corpus: Corpus) -> int:
    table = pq.read_table(corpus.path / PASSAGES, columns=["document", "other"])
    pairs = set(zip(table["document"].to_pylist(), table["other"].to_pylist(), strict=True))
    count = 0
    for first, second in pairs:
        a, b = corpus.index(first), corpus.index(second)
        apart = corpus.sequence_ids[a] != corpus.sequence_ids[b] and corpus.group_ids[a] != corpus.group_ids[b]
        count += bool(apart and not corpus.is_validation[[a, b]].any())
    return count


def _columns(corpus: Corpus, *names: str) -> list[list[Any]]:
    table = pq.read_table(corpus.path / GROUPS, columns=list(names))
    return [table[name].to_pylist() for name in names]
