"""Stage 3: which documents belong together, and which passages they share. One task, for all documents.

It writes ``groups.parquet`` (:data:`GROUPS`, a row a document, in order) and ``passages.parquet`` (:data:`PASSAGES`).
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks import ids
from memsinks.corpus.grouping.groups import Kind, Likeness, likenesses, stars
from memsinks.corpus.grouping.passages import Passage
from memsinks.corpus.stages.job import Job
from memsinks.corpus.stages.parts import Facts, facts, parts
from memsinks.corpus.stages.signs import Signs

STAGE = "group"
GROUPS = pa.schema(
    {
        "document": pa.string(),
        "group_id": pa.uint64(),
        "text_of": pa.string(),
        "representative": pa.string(),
        "kind": pa.string(),
        "jaccard": pa.float32(),
        "shared": pa.float32(),
    }
)
"""Of each document: its group, the document that stands for its text (of copies the first by name), why it belongs to
the representative, and how like the two are."""
PASSAGES = pa.schema(
    {
        "document": pa.string(),
        "start": pa.int64(),
        "other": pa.string(),
        "other_start": pa.int64(),
        "words": pa.int64(),
    }
)
"""Passages of so many words that two documents share, by the numbers of their first words."""


def run(job: Job, task: int) -> None:
    """Group the documents."""
    known = facts(job)
    # Texts in the order of their hashes, each with the document that stands for it: of copies, the first by name.
    names = np.array(known.table["name"].to_pylist(), dtype=object)
    texts, text = np.unique(known.hashes, return_inverse=True)
    by_name = np.argsort(names, kind="stable")
    by_name = by_name[np.argsort(text[by_name], kind="stable")]
    first = by_name[np.searchsorted(text[by_name], np.arange(len(texts)))]
    edges: list[Likeness] = []
    passages: list[Passage] = []
    if (chosen := job.config.groups) is not None:
        signs = Signs(job, len(parts(job)), first)
        edges, passages = likenesses(
            len(texts),
            signs.bands(),
            signs.prints(),
            signs.words,
            similarity=chosen.similarity,
            template=chosen.template,
            passage_words=chosen.passage_words,
        )
    found = stars(len(texts), edges)
    with job.work.task(STAGE, task) as folder:
        pq.write_table(
            _groups(job, known, names, text, first, found.representative, found.evidence), folder / "groups.parquet"
        )
        pq.write_table(_passages(passages, names[first]), folder / "passages.parquet")


def _groups(
    job: Job,
    known: Facts,
    names: np.ndarray,
    text: np.ndarray,
    first: np.ndarray,
    representative: np.ndarray,
    evidence: dict[int, Likeness],
) -> pa.Table:
    similarity = 1.0 if job.config.groups is None else job.config.groups.similarity
    members = np.bincount(representative[text], minlength=len(first))
    group_ids = np.array(
        [ids.group_id(bytes(known.hashes[d]), key=job.config.id_key) for d in first.tolist()], dtype=np.uint64
    )
    leader = representative[text]
    together = members[leader] > 1
    kind = np.where(together, np.where(np.arange(len(names)) == first[text], "representative", "copy"), "alone")
    kind = kind.astype(object)
    jaccard = together.astype(np.float32)
    shared = jaccard.copy()
    # Few texts belong to another: the rest is settled for all at once.
    where = np.isin(text, np.fromiter(evidence, np.int64, len(evidence)))
    for document in np.flatnonzero(where).tolist():
        why = evidence[int(text[document])]
        found: Kind = "near" if why.jaccard >= similarity else "template"
        kind[document], jaccard[document], shared[document] = found, why.jaccard, why.shared
    columns = [names, group_ids[leader], names[first[text]], names[first[leader]], kind, jaccard, shared]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, GROUPS, strict=True)], schema=GROUPS
    )


def _passages(passages: list[Passage], names: np.ndarray) -> pa.Table:
    columns = [
        [names[p.a] for p in passages],
        [p.a_start for p in passages],
        [names[p.b] for p in passages],
        [p.b_start for p in passages],
        [p.words for p in passages],
    ]
    return pa.table(columns, schema=PASSAGES)
