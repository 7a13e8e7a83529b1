"""The texts of an audit: what is audited, and what it is compared with."""

from dataclasses import dataclass

import numpy as np

from memsinks.audit import TokenizedDocument, tokenized
from memsinks.corpus import Corpus
from memsinks.errors import InputError

FEW = 20
"""Held-out documents of the same sources below which those of all sources are taken."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Sets of documents, by their numbers in the corpus.

    Attributes:
        corpus: opened with the sequence IDs of the run.
        target: ``int64``, audited, the most exposed first.
        complete: the target is all of the text that was asked about, not a part of it.
        unseen: ``int64``, held out from training: of the target's sources where there are enough, and of lengths like
            the target's where there are enough.
        same_source: the unseen documents are of the target's sources.
        survivors: by source, trained with sinks and not audited.
        validation: by source, held out.
    """

    corpus: Corpus
    target: np.ndarray
    complete: bool
    unseen: np.ndarray
    same_source: bool
    survivors: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]

    def documents(self, numbers: np.ndarray) -> list[TokenizedDocument]:
        """Those documents as a model reads them, with their own sequence IDs."""
        return tokenized(self.corpus, numbers)

    @property
    def target_ids(self) -> tuple[int, ...]:
        """Distinct sequence IDs of the target, sorted."""
        return tuple(int(i) for i in np.unique(self.corpus.sequence_ids[self.target]))


def choose(
    corpus: Corpus, chosen: np.ndarray, exposures: np.ndarray, with_sinks: np.ndarray, *, most: int, most_unseen: int
) -> Texts:
    """The texts of an audit.

    Args:
        corpus: of the run.
        chosen: ``bool [documents]``, what is asked about.
        exposures: ``int64 [documents]``, in training; 0 if never.
        with_sinks: ``bool [documents]``, trained with sinks.
        most: documents of the target, and of each survivor and source.
        most_unseen: held-out documents to compare the target with.

    Raises:
        InputError: none of the chosen was trained, or nothing was held out.
    """
    trained = chosen & (exposures > 0) & ~corpus.is_validation
    if not trained.any():
        raise InputError(
            f"{corpus.place}: none of the {int(chosen.sum()):,} documents that are asked about was trained on; an "
            "audit needs text that the model saw"
        )
    if not corpus.is_validation.any():
        raise InputError(
            f"{corpus.place}: no document was held out from training, so there is nothing to compare with; prepare the "
            "corpus with a validation split"
        )
    order = np.argsort(-exposures, kind="stable")
    target = order[trained[order]][:most]
    sources = np.array([source or "" for source in corpus.sources])
    same = corpus.is_validation & np.isin(sources, np.unique(sources[target]))
    same_source = int(same.sum()) >= FEW
    held_out = np.flatnonzero(same if same_source else corpus.is_validation)
    survivors = {
        name: np.flatnonzero(with_sinks & ~chosen & ~corpus.is_validation & (sources == name))[:most]
        for name in np.unique(sources[with_sinks & ~chosen & ~corpus.is_validation]).tolist()
    }
    validation = {
        name: np.flatnonzero(corpus.is_validation & (sources == name))[:most]
        for name in np.unique(sources[corpus.is_validation]).tolist()
    }
    return Texts(
        corpus=corpus,
        target=target,
        complete=len(target) == int(trained.sum()),
        unseen=_spread(_of_like_length(corpus.lengths, target, held_out), most_unseen),
        same_source=same_source,
        survivors=survivors,
        validation=validation,
    )


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """So many at most, evenly over the corpus: the first ones may be of one source."""
    return numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(np.int64)]


def _of_like_length(lengths: np.ndarray, target: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Held-out documents between the shortest and the longest of the target, if there are enough; else all."""
    low, high = lengths[target].min(), lengths[target].max()
    like = held_out[(lengths[held_out] >= low) & (lengths[held_out] <= high)]
    return like if len(like) >= FEW else held_out
