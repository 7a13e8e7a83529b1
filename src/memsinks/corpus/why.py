"""Why a document has its IDs: with which documents it belongs together, which passages it shares, and the evidence."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memsinks.corpus.corpus import Corpus
from memsinks.corpus.grouping.groups import Kind
from memsinks.corpus.grouping.words import word_spans
from memsinks.corpus.stages.finish import GROUPS, PASSAGES
from memsinks.errors import InputError


@dataclass(frozen=True)
class Member:
    """A document of a group.

    Attributes:
        document, source: its name, and where it comes from.
        kind: why it is with the representative.
        jaccard: index of the runs of three words of both.
        shared: the smaller of the parts of their runs that both have.
    """

    document: str
    source: str | None
    kind: Kind
    jaccard: float
    shared: float


@dataclass(frozen=True)
class Shared:
    """Passages that a document shares with another.

    Attributes:
        document, source: the other.
        same_group: whether they belong together all the same.
        passages: words of each, where it begins in this document and in the other, in words.
        text: the longest passage as it stands in this document.
    """

    document: str
    source: str | None
    same_group: bool
    passages: list[tuple[int, int, int]]
    text: str

    @property
    def words(self) -> int:
        """Words of all passages."""
        return sum(words for words, _, _ in self.passages)


@dataclass(frozen=True)
class Why:
    """What is known of a document's identity.

    Attributes:
        document, source: it, and where it comes from.
        split: train or validation.
        sequence_id, content_id, group_id, source_id: its IDs; no source ID without a source.
        words: how many it has.
        same_content: documents with the same tokens.
        representative: of its group.
        members: of its group, itself among them.
        shared: documents with which it shares passages, those with most words first.
    """

    document: str
    source: str | None
    split: str
    sequence_id: int
    content_id: int
    group_id: int
    source_id: int | None
    words: int
    same_content: list[str]
    representative: str
    members: list[Member]
    shared: list[Shared]

    @property
    def sources(self) -> list[str]:
        """The known sources of its group."""
        return sorted({m.source for m in self.members if m.source is not None})


def why(corpus: Corpus, document: str) -> Why:
    """Explain the IDs of a document.

    Raises:
        InputError: there is no such document, or the corpus was prepared before groups were kept.
    """
    own = corpus.index(document)
    if not (corpus.path / GROUPS).is_file():
        raise InputError(f"{corpus.place}: has no {GROUPS}; prepare the corpus again with this version of memsinks")
    group_id = int(corpus.group_ids[own])
    rows = pq.read_table(
        corpus.path / GROUPS, filters=pc.field("group_id") == pa.scalar(group_id, pa.uint64())
    ).to_pylist()
    members = [
        Member(
            row["document"], corpus.sources[corpus.index(row["document"])], row["kind"], row["jaccard"], row["shared"]
        )
        for row in rows
    ]
    text = corpus.text(own)
    spans = word_spans(text)
    same = np.flatnonzero(corpus.content_ids == corpus.content_ids[own]).tolist()
    source = corpus.sources[own]
    return Why(
        document=document,
        source=source,
        split="validation" if corpus.is_validation[own] else "train",
        sequence_id=int(corpus.sequence_ids[own]),
        content_id=int(corpus.content_ids[own]),
        group_id=group_id,
        source_id=None if source is None else int(corpus.source_ids[own]),
        words=len(spans),
        same_content=[corpus.documents[i] for i in same if i != own],
        representative=rows[0]["representative"],
        members=members,
        shared=_shared(corpus, next(r["text_of"] for r in rows if r["document"] == document), group_id, text, spans),
    )


def _shared(corpus: Corpus, document: str, group_id: int, text: str, spans: np.ndarray) -> list[Shared]:
    """Passages are kept once for documents with the same text, under the name that stands for them: ``document``."""
    table = pq.read_table(
        corpus.path / PASSAGES, filters=(pc.field("document") == document) | (pc.field("other") == document)
    )
    found: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for row in table.to_pylist():
        here, there = row["start"], row["other_start"]
        if row["document"] == document:
            found[row["other"]].append((row["words"], here, there))
        else:
            found[row["document"]].append((row["words"], there, here))
    shared = []
    for name, passages in found.items():
        words, start, _ = max(passages)
        other = corpus.index(name)
        shown = text[spans[start, 0] : spans[start + words - 1, 1]] if start + words <= len(spans) else ""
        same = bool(corpus.group_ids[other] == group_id)
        shared.append(Shared(name, corpus.sources[other], same, sorted(passages, reverse=True), shown))
    return sorted(shared, key=lambda s: (-s.words, s.document))
