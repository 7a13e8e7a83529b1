"""The text of a trial: a sample of a run's own, small enough for paired runs on a laptop."""

from dataclasses import dataclass

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.corpus import Corpus
from memsinks.corpus.card import counted
from memsinks.corpus.grouping.words import mixed
from memsinks.errors import InputError
from memsinks.stream import ExposurePlan, chunk
from memsinks.training.run import TrainText

LEAST, MOST = 0.1, 0.4
"""Bounds of the target's share of a trial's tokens: that of governed text in the plan, if it lies between."""
OFTEN, TYPICAL = 64, 16
"""Exposures of the target: those of the plan up to the first, and the second where the plan has none repeated."""
MEASURED = 200
"""Passages of a set that are measured."""
OVERSHOOT = 2.0
"""How much larger than asked a trial may be, for documents are not cut."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialText:
    """What a trial trains on and measures.

    Attributes:
        corpus: of the run, with the run's IDs.
        target: ``int64 [*]``, governed documents whose exposures the arms differ in.
        rest: ``int64 [documents]``, exposures of the other documents of the sample, 0 elsewhere.
        exposures: of a target document, where it is repeated.
        length: tokens of a row.
        domain: ``int64 [*]``, held-out documents of the target's sources; all, where documents have no sources.
        other: ``int64 [*]``, other held-out documents.
    """

    corpus: Corpus
    target: np.ndarray
    rest: np.ndarray
    exposures: int
    length: int
    domain: np.ndarray
    other: np.ndarray

    def plan(self, exposures: int) -> ExposurePlan:
        """The rest as it is planned, and the target so often."""
        counts = self.rest.copy()
        counts[self.target] = exposures
        return ExposurePlan(self.corpus, counts)

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """Passages of the target, the domain and other held-out text, where there are at least two.

        They are cut as training cuts documents into rows, and taken from each document in turn.
        """
        chosen = {"target": self.target, "domain": self.domain, "other": self.other}
        found = {name: self._passages(documents) for name, documents in chosen.items()}
        return {name: passages for name, passages in found.items() if len(passages) > 1}

    def extraction(self) -> list[TokenizedDocument]:
        """The measured passages of the target."""
        return self.sets()["target"]

    def _passages(self, documents: np.ndarray) -> list[TokenizedDocument]:
        corpus = self.corpus
        place, start, stop = chunk(corpus.lengths[documents], self.length)
        whole = stop - start > 1
        place, start, stop = place[whole], start[whole], stop[whole]
        # The nth passages of all documents stand before the next ones.
        order = np.argsort(start, kind="stable")[:MEASURED]
        rows = zip(*(values[order].tolist() for values in (documents[place], start, stop)), strict=True)
        return [
            TokenizedDocument(f"{corpus.documents[i]}:{a}", corpus.tokens(i, a, b), int(corpus.sequence_ids[i]))
            for i, a, b in rows
        ]


def sample(text: TrainText, tokens: int, exposures: int | None, length: int, seed: int) -> TrialText:
    """Choose a trial's text by hash, so that the same corpus gives the same.

    The target is taken from one ID after the other, first from those of whose sources something is held out. Its other
    copies, and all else under its IDs, are left out, so that an arm without the target never saw it.

    Args:
        text: of the run.
        tokens: of the arm with all exposures, once through.
        exposures: of the target; None for the plan's own, see :data:`OFTEN`.
        length: tokens of a row.
        seed: of the choice.

    Raises:
        InputError: nothing is held out, fewer than two governed documents fit, nothing else is left, or documents are
            too long for so few tokens.
    """
    corpus, counts = text.corpus, text.plan.counts
    if not corpus.is_validation.any():
        raise InputError(
            f"{corpus.path}: no document is held out, so a trial has nothing to measure skill on; prepare the corpus "
            "with --validation"
        )
    order = _shuffled(corpus, seed)
    planned = order[counts[order] > 0]
    governed = planned[text.governed[planned]]
    if exposures is None:
        middle = int(np.median(counts[governed]))
        exposures = TYPICAL if middle < 2 else min(middle, OFTEN)
    share = float((counts * corpus.lengths)[governed].sum()) / text.plan.tokens
    wanted = tokens * min(max(share, LEAST), MOST)
    by_id = governed[
        np.lexsort((mixed(corpus.sequence_ids[governed] ^ np.uint64(seed)), ~_measurable(corpus, governed)))
    ]
    target = _taken(by_id, exposures * corpus.lengths[by_id], wanted, least=2)
    like = np.isin(corpus.group_ids, corpus.group_ids[target])
    others = planned[~like[planned] & ~np.isin(corpus.sequence_ids[planned], corpus.sequence_ids[target])]
    if len(target) < 2 or not len(others):
        raise InputError(
            "a trial compares text that is repeated with other text, and "
            + (
                "fewer than two governed documents are planned"
                if len(target) < 2
                else "all planned documents have the IDs or the text of those that it would repeat"
            )
        )
    spent = int(exposures * corpus.lengths[target].sum())
    kept = _taken(others, (counts * corpus.lengths)[others], max(tokens - spent, wanted), least=1)
    rest = np.zeros(len(corpus), dtype=np.int64)
    rest[kept] = counts[kept]
    found = int((rest * corpus.lengths).sum()) + spent
    if found > OVERSHOOT * tokens:
        raise InputError(
            f"documents are long: a trial with {counted(len(target), 'governed document')} {exposures} times each has "
            f"{found:,} tokens; ask for as many with --trial-tokens, or for fewer exposures with --trial-exposures"
        )
    held_out = order[corpus.is_validation[order] & ~like[order]]
    domain = _of_domain(corpus, target, held_out)
    return TrialText(
        corpus=corpus,
        target=target,
        rest=rest,
        exposures=exposures,
        length=length,
        domain=held_out[domain],
        other=held_out[~domain],
    )


def _taken(documents: np.ndarray, sizes: np.ndarray, wanted: float, least: int) -> np.ndarray:
    """The first documents whose sizes together are at most ``wanted``, and at least so many."""
    return documents[: max(least, int(np.searchsorted(np.cumsum(sizes), wanted, side="right")))]


def _of_domain(corpus: Corpus, target: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Which held-out documents are of a source of the target: ``bool [*]``; all, if the target has no sources."""
    sources = {corpus.sources[i] for i in target.tolist()} - {None}
    if not sources:
        return np.ones(len(held_out), dtype=bool)
    return np.array([corpus.sources[i] in sources for i in held_out.tolist()], dtype=bool)


def _shuffled(corpus: Corpus, seed: int) -> np.ndarray:
    """All documents in the order of a hash of their content; copies in that of the corpus."""
    return np.argsort(mixed(corpus.content_ids ^ np.uint64(seed)), kind="stable")


def _measurable(corpus: Corpus, documents: np.ndarray) -> np.ndarray:
    """Of which documents' sources something is held out: ``bool [*]``."""
    known = {corpus.sources[i] for i in np.flatnonzero(corpus.is_validation).tolist()}
    return np.array([corpus.sources[i] in known for i in documents.tolist()], dtype=bool)
