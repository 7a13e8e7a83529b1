"""Passages of a run's text as words: of sources that trained with sinks, and of text that belongs to none."""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from memsinks.checkpoint.lineage import Lineage
from memsinks.corpus import Corpus
from memsinks.corpus.storage import Place
from memsinks.serving.names import corpora_of

PASSAGE_WORDS = 200
PER_SOURCE = 500
"""Most passages of one source."""
OF_NO_SOURCE = 4000
"""Most passages of text that belongs to no source."""
_WORD = re.compile(r"\w+")
T = TypeVar("T")


@dataclass(frozen=True)
class Passage:
    """A piece of a document.

    Attributes:
        words: of it.
        source: whose it is; None for text that trained without sinks.
        sequence_id: of its document; None for text that trained without sinks.
        document: its name.
    """

    words: tuple[str, ...]
    source: str | None = None
    sequence_id: int | None = None
    document: str = ""


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and underscores, without case."""
    return _WORD.findall(text.casefold())


def read_passages(
    lineage: Lineage,
    places: Iterable[Place],
    *,
    excluded: Set[int],
    per_source: int = PER_SOURCE,
    of_no_source: int = OF_NO_SOURCE,
) -> list[Passage]:
    """Passages of the text that a checkpoint was trained on, evenly spread over each source.

    Text of excluded IDs is not read, nor is text that trained with sinks and has no source, nor, as text of no source,
    text that was removed and that this corpus has under other IDs.

    Args:
        lineage: of the checkpoint.
        places: folders or URLs of the corpora of its trainings.
        excluded: sequence IDs that were removed or are denied.
        per_source: most passages of one source.
        of_no_source: most passages of text that trained without sinks.

    Raises:
        InputError: a place is no corpus, or the checkpoint was not trained on it.
    """
    trained, banned = (np.fromiter(ids, np.uint64) for ids in (lineage.trained["sequence_id"].to_pylist(), excluded))
    found: dict[str | None, list[Passage]] = {}
    for corpus in corpora_of(lineage, places):
        has_sinks = np.isin(corpus.sequence_ids, trained)
        read = ~corpus.is_validation & ~np.isin(corpus.sequence_ids, banned)
        refused = lineage.refuses(corpus.sequence_ids, corpus.content_ids)
        numbers: dict[str | None, list[int]] = {None: np.flatnonzero(read & ~has_sinks & ~refused).tolist()}
        for i in np.flatnonzero(read & has_sinks).tolist():
            if (source := corpus.sources[i]) is not None:
                numbers.setdefault(source, []).append(i)
        for source, documents in numbers.items():
            most = of_no_source if source is None else per_source
            found.setdefault(source, []).extend(_sample(corpus, documents, source, most))
    return [
        passage
        for source, passages in found.items()
        for passage in _spread(passages, of_no_source if source is None else per_source)
    ]


def _sample(corpus: Corpus, documents: Sequence[int], source: str | None, most: int) -> Iterator[Passage]:
    # Each document gives a passage at least, so no more of them need to be decoded.
    for i in _spread(documents, most):
        words = tuple(words_of(corpus.text(i)))
        sequence_id = None if source is None else int(corpus.sequence_ids[i])
        for start in range(0, len(words), PASSAGE_WORDS):
            yield Passage(words[start : start + PASSAGE_WORDS], source, sequence_id, corpus.documents[i])


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]
