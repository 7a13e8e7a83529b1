"""What a plan shows of each source."""

from dataclasses import dataclass

import numpy as np

from memsinks.corpus import Corpus
from memsinks.stream.plan import ExposurePlan


@dataclass(frozen=True, kw_only=True)
class SourceExposures:
    """The training documents of one source, or of several together, and what is planned of them.

    Attributes:
        source: its name; None for documents without one. Of several it is what they are called together.
        documents: training documents, those without an exposure too.
        ids: distinct sequence IDs among them.
        exposures: fewest, mean and most exposures of a document.
        tokens: stored tokens planned, over all exposures.
        share: of the tokens of the plan.
        governed: documents with an exposure that train with their sinks.
    """

    source: str | None
    documents: int
    ids: int
    exposures: tuple[int, float, int]
    tokens: int
    share: float
    governed: int


def exposures_by_source(
    corpus: Corpus, plan: ExposurePlan, governed: np.ndarray, *, most: int = 12
) -> list[SourceExposures]:
    """One entry a source, those with the most planned tokens first, then one for the rest and one for all.

    Args:
        corpus: the documents.
        plan: for it.
        governed: ``bool [documents]``.
        most: entries of sources and the rest; a source that is held out as a whole has none.
    """
    training = np.flatnonzero(~corpus.is_validation)
    number: dict[str | None, int] = {}
    group = np.array([number.setdefault(corpus.sources[i], len(number)) for i in training], dtype=np.int64)
    tokens = plan.counts[training] * corpus.lengths[training]
    by_source = np.zeros(len(number), dtype=np.int64)
    np.add.at(by_source, group, tokens)
    names = list(number)
    ranked = sorted(range(len(names)), key=lambda i: (-int(by_source[i]), names[i] or ""))
    first = ranked if len(ranked) <= most else ranked[: most - 1]
    parts: list[tuple[str | None, np.ndarray]] = [(names[i], group == i) for i in first]
    if len(first) < len(ranked):
        parts.append((f"{len(ranked) - len(first):,} others", ~np.isin(group, first)))
    parts.append(("all", np.ones(len(training), dtype=bool)))
    total = max(int(tokens.sum()), 1)

    def entry(source: str | None, chosen: np.ndarray) -> SourceExposures:
        documents = training[chosen]
        counts = plan.counts[documents]
        return SourceExposures(
            source=source,
            documents=len(documents),
            ids=len(np.unique(corpus.sequence_ids[documents])),
            exposures=(int(counts.min()), float(counts.mean()), int(counts.max())),
            tokens=int(tokens[chosen].sum()),
            share=int(tokens[chosen].sum()) / total,
            governed=int((governed[documents] & (counts > 0)).sum()),
        )

    return [entry(source, chosen) for source, chosen in parts]
