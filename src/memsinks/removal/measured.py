"""The text that a verification measures."""

import numpy as np

from memsinks.audit import TokenizedDocument, in_windows, tokenized
from memsinks.removal.plan import Planned

FEW = 20
"""Documents below which they are scored in windows."""


class Text:
    """What is measured, each kind at most as many documents as the plan says.

    Attributes:
        length: tokens that the model sees at once.
        whole_removed, whole_unseen: documents that go, and such as were never trained.
        removed, unseen: the same as they are scored: in windows where there are few of either.
        survivors: documents of surviving sources, by source; in windows where there are few.
    """

    def __init__(self, planned: Planned, length: int) -> None:
        self.length = length
        subject, scope, most = planned.subject, planned.scope, planned.plan.thresholds.measured
        corpus = subject.corpus
        gone = scope.documents | scope.also
        sources = np.array([source or "" for source in corpus.sources])
        # The most exposed first: they are remembered best.
        order = np.argsort(-subject.exposures, kind="stable")
        self.whole_removed = tokenized(corpus, order[gone[order]][:most])
        held_out = corpus.is_validation & np.isin(sources, np.unique(sources[gone]))
        if held_out.sum() < FEW:
            held_out = corpus.is_validation
        self.whole_unseen = tokenized(corpus, np.flatnonzero(held_out)[:most])
        few = min(len(self.whole_removed), len(self.whole_unseen)) < FEW
        self.removed, self.unseen = (
            in_windows(documents, length) if few else documents for documents in (self.whole_removed, self.whole_unseen)
        )
        self.survivors: dict[str, list[TokenizedDocument]] = {}
        stays = subject.with_sinks & np.isin(corpus.sequence_ids, scope.survivors)
        names, counts = np.unique(sources[stays], return_counts=True)
        # All of the few, and the largest of many: a threshold for each of ten thousand sources says nothing.
        for name in names[np.argsort(-counts, kind="stable")][:20].tolist():
            documents = tokenized(corpus, np.flatnonzero(stays & (sources == name))[:most])
            self.survivors[name] = in_windows(documents, length) if len(documents) < FEW else documents
