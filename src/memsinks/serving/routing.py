"""Which source's sinks suit a prompt: that whose text is most like it, or none.

The index is made when a server starts, from text of surviving sources, and lives in memory only.
"""

import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from memsinks.checkpoint.lineage import Lineage
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError
from memsinks.serving.guard import Guard, Refusal, Wanted
from memsinks.serving.passages import PASSAGE_WORDS, Passage, read_passages, words_of
from memsinks.sinks.modes import OFF, Mode

FALSE_ROUTES = 0.05
"""Share of prompts of no source in the index that the default threshold routes."""
_BEST = 3
"""Passages whose mean score is the score of a source."""
_PROMPTS = (slice(0, 8), slice(8, 24), slice(24, 56), slice(56, 120))
"""Words of a passage that are prompts of calibration."""
_PASSAGES, _LEAST = 100, 20
"""Of calibration: most passages, and least prompts."""


@dataclass(frozen=True)
class Route:
    """What a prompt was found to be like.

    Attributes:
        source: whose sinks to switch on; None for none.
        score: of the source that is most like it, less that of text of no source or, if there is no such text, that of
            the runner-up. A source's score is the part of the prompt's words, weighed by how rare they are, that its
            passages share with the prompt: from 0 to below 1.
        margin: score of that source less that of the runner-up.
        runner_up: the source that comes second, if another one has a word of the prompt.
    """

    source: str | None
    score: float = 0.0
    margin: float = 0.0
    runner_up: str | None = None


class Router:
    """BM25 over passages of sources and of text that belongs to none. Thread-safe if ``excluded`` is.

    The score of a source is the mean of its three best passages. The last 200 words of a prompt count, each word once.
    Of sources that score alike, the first by name is taken.

    Without a threshold, one is chosen so that one in twenty prompts of no source in the index is routed: pieces of
    8, 16, 32 and 64 words of text of no source, of every other document of it, which the index then lacks; or, where
    these are fewer than 20, of each source, which itself is then no candidate. The threshold is at least 0.

    Args:
        passages: of surviving sources, and of text that belongs to none.
        excluded: tells the IDs that must stay off now, removed and denied; None if it cannot tell, and then no prompt
            is routed. Passages of these IDs do not count.
        threshold: above which a source is chosen.

    Attributes:
        threshold: that given or chosen.
        sources: those in the index, sorted.

    Raises:
        InputError: no passage has a source, or one source has nothing to be compared with.
        ConfigError: there is too little text to choose a threshold by, or the package bm25s is not there.
    """

    def __init__(
        self,
        passages: Iterable[Passage],
        *,
        excluded: Callable[[], Set[int] | None] = frozenset,
        threshold: float | None = None,
    ) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise ConfigError("routing needs more packages (bm25s): pip install 'memsinks[serve]'") from error
        # It asks for all messages of its own and would write one for each index.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        passages = [passage for passage in passages if passage.words]
        prompts: list[Passage] = []
        if threshold is None:
            passages, prompts = _held_back(passages)
        self.sources = tuple(sorted({passage.source for passage in passages if passage.source is not None}))
        self._compared = any(passage.source is None for passage in passages)
        if len(self.sources) + self._compared < 2 or not self.sources:
            raise InputError(
                f"the corpora have text of {len(self.sources)} sources that may be switched on, and "
                f"{'some' if self._compared else 'none'} that trained without sinks; routing needs two kinds of text "
                "to compare, one of them of a source"
            )
        self._excluded = excluded
        place: dict[str | None, int] = {source: i for i, source in enumerate((*self.sources, None))}
        # In the order of sources, so that each has a slice; text of none comes last.
        passages = sorted(passages, key=lambda p: place[p.source])
        ends = np.searchsorted([place[p.source] for p in passages], range(len(place) + 1))
        self._slices = [slice(*pair) for pair in itertools.pairwise(ends.tolist())]
        self._ids = np.array([p.sequence_id or 0 for p in passages], dtype=np.uint64)
        self._index = bm25s.BM25(method="lucene", dtype="float64")
        self._index.index([list(p.words) for p in passages], show_progress=False)
        self._found_in = Counter(word for p in passages for word in set(p.words))
        self.threshold = self._calibrated(prompts, passages) if threshold is None else threshold

    @classmethod
    def of(
        cls,
        lineage: Lineage,
        places: Iterable[Place],
        *,
        excluded: Callable[[], Set[int] | None],
        threshold: float | None = None,
    ) -> Self:
        """A router for the text that a checkpoint was trained on.

        Args:
            lineage: of the checkpoint.
            places: folders or URLs of the corpora of its trainings.
            excluded: as above; it has to know now.
            threshold: as above.

        Raises:
            InputError: it is not known what is excluded, a place is no corpus of the checkpoint, or too few sources
                are left.
            ConfigError: there is too little text to choose a threshold by, or the package bm25s is not there.
        """
        now = excluded()
        if now is None:
            raise InputError("it is not known which sources were removed or denied, so no prompt can be routed")
        return cls(read_passages(lineage, places, excluded=now), excluded=excluded, threshold=threshold)

    def route(self, prompt: str) -> Route:
        """The source for a prompt, or none."""
        excluded = self._excluded()
        if excluded is None:
            return Route(None)
        out = np.isin(self._ids, np.fromiter(excluded, np.uint64))
        out[self._slices[-1]] = False
        found = self._nearest(words_of(prompt), out)
        return found if found.score > self.threshold else replace(found, source=None)

    def _nearest(self, words: Sequence[str], out: np.ndarray) -> Route:
        """The best source, whatever its score; none if none has a word of the prompt or there is nothing to compare.

        Args:
            words: of the prompt.
            out: ``bool [passages]``, those that do not count.
        """
        terms = sorted(set(words[-PASSAGE_WORDS:]))
        known = [term for term in terms if term in self._found_in]
        candidates = [i for i in range(len(self.sources)) if not out[self._slices[i]].all()]
        if not known or len(candidates) + self._compared < 2:
            return Route(None)
        scores = self._index.get_scores(known) / sum(map(self._rarity, terms))
        by_source = {i: _top(scores[self._slices[i]][~out[self._slices[i]]]) for i in candidates}
        # A stable sort: of equal ones the first by name comes first.
        similar = sorted((i for i in candidates if by_source[i] > 0), key=lambda i: -by_source[i])
        if not similar:
            return Route(None)
        best, *others = similar
        second = by_source[others[0]] if others else 0.0
        rival = _top(scores[self._slices[-1]]) if self._compared else second
        runner_up = self.sources[others[0]] if others else None
        return Route(self.sources[best], by_source[best] - rival, by_source[best] - second, runner_up)

    def _rarity(self, word: str) -> float:
        """BM25's inverse document frequency, also of words that are in no passage."""
        count = self._found_in[word]
        return math.log(1 + (len(self._ids) - count + 0.5) / (count + 0.5))

    def _calibrated(self, prompts: Sequence[Passage], passages: Sequence[Passage]) -> float:
        """The threshold that prompts of no source in the index exceed as often as they may."""
        # Without one source, two have to be left to compare.
        if not prompts and len(self.sources) + self._compared > 2:
            prompts = _prompts([passage for passage in passages if passage.source is not None])
        if len(prompts) < _LEAST:
            raise ConfigError(
                f"the corpora have {len(prompts)} prompts to choose a threshold of routing by, and {_LEAST} are "
                "needed; give a threshold, such as 0.05"
            )
        scores = []
        for prompt in prompts:
            out = np.zeros(len(self._ids), dtype=bool)
            if prompt.source is not None:
                out[self._slices[self.sources.index(prompt.source)]] = True
            scores.append(self._nearest(prompt.words, out).score)
        return max(0.0, float(np.quantile(scores, 1 - FALSE_ROUTES, method="higher")))


def choose(router: Router, guard: Guard, prompt: str) -> tuple[Route, Mode]:
    """Route a prompt, and ask the guard, which has the last word; what it refuses stays off."""
    route = router.route(prompt)
    mode = guard.mode(None if route.source is None else Wanted(sources=(route.source,)))
    return (replace(route, source=None), OFF) if isinstance(mode, Refusal) else (route, mode)


def _held_back(passages: Sequence[Passage]) -> tuple[list[Passage], list[Passage]]:
    """Passages for the index, and prompts of no source, of documents that it lacks."""
    documents = dict.fromkeys(passage.document for passage in passages if passage.source is None)
    chosen = set(list(documents)[1::2])
    held = [passage for passage in passages if passage.source is None and passage.document in chosen]
    if len(prompts := _prompts(held)) < _LEAST:
        return list(passages), []
    return [passage for passage in passages if passage.source is not None or passage.document not in chosen], prompts


def _prompts(passages: Sequence[Passage]) -> list[Passage]:
    """Pieces of some passages."""
    chosen = passages[:: max(1, math.ceil(len(passages) / _PASSAGES))]
    return [replace(p, words=words) for p in chosen for piece in _PROMPTS if (words := p.words[piece])]


def _top(scores: np.ndarray) -> float:
    """The mean of the best, or of all where there are fewer."""
    return float(np.sort(scores)[-_BEST:].mean())
