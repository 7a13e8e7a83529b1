"""From a request to sequence IDs, and the decisions that somebody has to take on the way."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.removal.policy import Choice, Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target, find, shown_ids

DecisionName = Literal["shared-ids", "near-copies", "shared-rows", "without-sinks"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Something that a request touches beyond what it names.

    Attributes:
        name: of the option that decides it.
        what: is touched.
        number: of them.
        examples: some of them.
        remove: what removing means; None where it cannot be done.
        keep: what keeping means.
        choice: taken, or None.
    """

    name: DecisionName
    what: str
    number: int
    examples: tuple[str, ...]
    remove: str | None
    keep: str
    choice: Choice | None

    @property
    def incomplete(self) -> str | None:
        """Why the removal is incomplete by this decision, if it is."""
        return f"{self.number:,} {self.what}: kept" if self.choice == "keep" else None


@dataclass(frozen=True, eq=False)
class Scope:
    """What goes.

    Attributes:
        everything: all sinks.
        documents: ``bool [documents]``, those of the request that lose their sinks.
        also: ``bool [documents]``, others that lose theirs by a decision.
        ids: ``uint64``, sorted.
        survivors: ``uint64``, sorted; IDs that stay.
        never_trained: documents of the request that the training did not see.
        before: documents of the request that were removed before.
        decisions: needed, taken or not.
    """

    everything: bool
    documents: np.ndarray
    also: np.ndarray
    ids: np.ndarray
    survivors: np.ndarray
    never_trained: int
    before: int
    decisions: tuple[Decision, ...]


def resolve(subject: Subject, target: Target, policy: Policy) -> Scope:
    """Which IDs go, but for decisions about rows, which :mod:`memsinks.removal.rows` adds.

    Raises:
        InputError: nothing of the request was trained with sinks, or all of it was removed before.
    """
    corpus, ids = subject.corpus, subject.corpus.sequence_ids
    chosen = find(target, corpus)
    gone = np.isin(ids, subject.removed)
    own = chosen & subject.with_sinks & ~gone
    if target.everything:
        every = subject.trained
        nobody = np.zeros_like(own)
        return Scope(True, own, nobody, every, every[:0], 0, int((chosen & subject.with_sinks & gone).sum()), ())
    outside = chosen & (subject.exposures > 0) & ~subject.with_sinks
    if not own.any():
        _nothing(subject, target, chosen, gone, outside)
    wanted = np.unique(ids[own])
    others = subject.with_sinks & ~chosen & ~gone

    decisions = []
    shared = others & np.isin(ids, wanted)
    if shared.any():
        decisions.append(_shared_ids(corpus, shared, policy.shared_ids))
        if policy.shared_ids == "keep":
            wanted = np.setdiff1d(wanted, ids[shared])
    near = others & ~shared & np.isin(corpus.group_ids, corpus.group_ids[own])
    if near.any():
        decisions.append(_near_copies(corpus, near, policy.near_copies))
        if policy.near_copies == "remove":
            wanted = np.union1d(wanted, ids[near])
    if outside.any():
        decisions.append(_without_sinks(corpus, outside, policy.without_sinks))
    if not len(wanted):
        raise InputError("every ID of the request is shared with other documents, and these are kept: nothing goes")
    goes = np.isin(ids, wanted) & subject.with_sinks
    return Scope(
        everything=False,
        documents=own & goes,
        also=goes & ~chosen,
        ids=wanted,
        survivors=np.setdiff1d(subject.trained, wanted),
        never_trained=int((chosen & (subject.exposures == 0)).sum()),
        before=int((chosen & subject.with_sinks & gone).sum()),
        decisions=tuple(decisions),
    )


def _nothing(subject: Subject, target: Target, chosen: np.ndarray, gone: np.ndarray, outside: np.ndarray) -> None:
    what = target.describe()
    if (chosen & subject.with_sinks & gone).any():
        when = ", ".join(removal.id for removal in subject.lineage.removals) or "an earlier removal"
        raise InputError(f"{what}: was removed from {subject.folder} before ({when}); there is nothing left to remove")
    if outside.any():
        raise InputError(
            f"{what}: {int(outside.sum()):,} documents trained into shared weights alone, without sinks, so they "
            "cannot be taken out of this checkpoint; retrain without them, and govern such text (exposures.govern) "
            "from then on"
        )
    held_out = int((chosen & subject.corpus.is_validation).sum())
    why = "is held out for validation" if held_out == int(chosen.sum()) else "was not trained"
    raise InputError(
        f"{what}: {int(chosen.sum()):,} documents of {subject.corpus.place}, none of which {subject.folder} was "
        f"trained on (each {why}); there is nothing to remove"
    )


def _shared_ids(corpus: Corpus, shared: np.ndarray, choice: Choice | None) -> Decision:
    ids = np.unique(corpus.sequence_ids[shared])
    return Decision(
        name="shared-ids",
        what="documents outside the request share an ID with documents in it",
        number=int(shared.sum()),
        examples=(*_named(corpus, shared), f"IDs {shown_ids(ids)}"),
        remove="they lose their sinks too, and must not be trained again under these IDs",
        keep="these IDs stay, and with them what the documents of the request left there",
        choice=choice,
    )


def _near_copies(corpus: Corpus, near: np.ndarray, choice: Choice | None) -> Decision:
    return Decision(
        name="near-copies",
        what="documents outside the request are near-copies of documents in it, under other IDs",
        number=int(near.sum()),
        examples=_named(corpus, near),
        remove="their IDs go too",
        keep="most of the text of the request stays in their sinks",
        choice=choice,
    )


def _without_sinks(corpus: Corpus, outside: np.ndarray, choice: Literal["keep"] | None) -> Decision:
    return Decision(
        name="without-sinks",
        what="documents of the request trained without sinks",
        number=int(outside.sum()),
        examples=_named(corpus, outside),
        remove=None,
        keep="what they left in shared weights stays; only retraining without them takes it out",
        choice=choice,
    )


def _named(corpus: Corpus, chosen: np.ndarray, most: int = 5) -> tuple[str, ...]:
    """Some of the documents, with their sources."""
    found = []
    for i in np.flatnonzero(chosen)[:most].tolist():
        source = corpus.sources[i]
        found.append(corpus.documents[i] if source is None else f"{corpus.documents[i]} ({source})")
    return tuple(found)
