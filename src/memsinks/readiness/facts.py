"""What a run's text is made of, as far as removal is concerned: what repeats, what is governed, what copies what."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from memsinks.corpus import Corpus
from memsinks.corpus.stages.finish import PASSAGES
from memsinks.training.run import TrainText

TERMS = "deletion_terms"
"""Metadata column with the terms under which somebody may ask for a document's removal."""


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """Facts of the documents that a run trains on. Tokens are those of the plan: a document seen twice counts twice.

    Attributes:
        documents, tokens: all of them.
        governed_documents, governed_tokens: that train with their sinks on.
        repeated_tokens: of text that is seen at least twice as often as the median text, copies and near-copies
            taken together.
        repeated_governed: of these, tokens that are governed.
        repeated_loose: groups of such text of which nothing is governed: a document of each, most tokens first.
        copies: documents that train with sinks off although a copy or near-copy of them is governed, by name.
        copies_tokens: their tokens.
        passages: pairs of a governed document and another group's that is not, which share a passage.
        with_terms: documents that have deletion terms; None without such a column.
        with_terms_loose: those of them that are not governed, by name.
        most_seen: the most exposures of a text, copies and near-copies taken together.
    """

    documents: int
    tokens: int
    governed_documents: int
    governed_tokens: int
    repeated_tokens: int
    repeated_governed: int
    repeated_loose: list[str]
    copies: list[str]
    copies_tokens: int
    passages: int
    with_terms: int | None
    with_terms_loose: list[str]
    most_seen: int


def text_facts(text: TrainText) -> TextFacts:
    """Gather the facts.

    Raises:
        InputError: the corpus was prepared before groups were kept.
    """
    corpus, counts = text.corpus, np.asarray(text.plan.counts)
    planned = np.flatnonzero(counts > 0)
    seen, governed = counts[planned], text.governed[planned]
    tokens = seen * corpus.lengths[planned]
    _, group = np.unique(corpus.group_ids[planned], return_inverse=True)
    group_seen = np.bincount(group, weights=seen)
    group_governed = np.bincount(group, weights=governed) > 0
    # The median is that of texts: many copies of one are one text.
    often = group_seen >= max(2.0, 2 * float(np.median(group_seen)))
    loose = often & ~group_governed
    group_tokens = np.bincount(group, weights=tokens)
    first = np.full(len(group_seen), len(planned))
    np.minimum.at(first, group, np.arange(len(planned)))
    ranked = sorted(np.flatnonzero(loose).tolist(), key=lambda g: (-group_tokens[g], g))
    copies = np.flatnonzero(group_governed[group] & ~governed)
    terms = _with_terms(corpus, planned)
    return TextFacts(
        documents=len(planned),
        tokens=int(tokens.sum()),
        governed_documents=int(governed.sum()),
        governed_tokens=int(tokens[governed].sum()),
        repeated_tokens=int(tokens[often[group]].sum()),
        repeated_governed=int(tokens[often[group] & governed].sum()),
        repeated_loose=[corpus.documents[planned[first[g]]] for g in ranked],
        copies=[corpus.documents[i] for i in planned[copies]],
        copies_tokens=int(tokens[copies].sum()),
        passages=_passages(corpus, text.governed & (counts > 0), ~text.governed & (counts > 0)),
        with_terms=None if terms is None else int(terms.sum()),
        with_terms_loose=[] if terms is None else [corpus.documents[i] for i in planned[terms & ~governed]],
        most_seen=int(group_seen.max(initial=0)),
    )


def _with_terms(corpus: Corpus, planned: np.ndarray) -> np.ndarray | None:
    if TERMS not in corpus.manifest["metadata"]:
        return None
    values: list[Any] = corpus.metadata(TERMS)
    return np.array([values[i] not in (None, "", False) for i in planned.tolist()], dtype=bool)


def _passages(corpus: Corpus, governed: np.ndarray, others: np.ndarray) -> int:
    """Passages are kept once for documents of one text, under the name that stands for them; so by group."""
    table = pq.read_table(corpus.path / PASSAGES, columns=["document", "other"])
    with_governed = set(corpus.group_ids[governed].tolist())
    with_others = set(corpus.group_ids[others].tolist())
    found = 0
    for pair in set(zip(table["document"].to_pylist(), table["other"].to_pylist(), strict=True)):
        a, b = (int(corpus.group_ids[corpus.index(name)]) for name in pair)
        if a != b:
            found += (a in with_governed and b in with_others) or (b in with_governed and a in with_others)
    return found
