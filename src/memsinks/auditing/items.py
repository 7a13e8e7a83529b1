"""Cloze items for what only the audited text says, and such for unseen text to compare with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np

from memsinks.audit.cloze import ClozeItem, reordered, template
from memsinks.audit.mentions import Mention, mentions
from memsinks.audit.occurrences import occurring
from memsinks.auditing.config_facts import FactsConfig
from memsinks.auditing.texts import Texts
from memsinks.errors import InputError

NAME, RARE = "names", "rare words"
PLACE = 4
"""Tokens before a name that make its place: no other text may have both."""
_FORMS = ("verbatim context", "reordered context", "template")


@dataclass(frozen=True, eq=False)
class _Place:
    """A word in a document whose tokens are known."""

    document: int
    text: str
    tokens: np.ndarray
    mention: Mention

    @property
    def kind(self) -> str:
        return NAME if self.mention.name else RARE

    @property
    def answer(self) -> np.ndarray:
        return self.tokens[self.mention.start : self.mention.stop]


class ClozeSet:
    """Items of the target and of unseen text, made in the same way, when first asked for."""

    def __init__(self, texts: Texts, config: FactsConfig, seed: int) -> None:
        """Keep what is needed.

        Args:
            texts: of the audit.
            config: how many items, candidates and tokens.
            seed: of their choice.
        """
        self._texts, self._config, self._seed = texts, config, seed

    @cached_property
    def items(self) -> dict[tuple[str, str], list[ClozeItem]]:
        """By measure (``names, verbatim context``) and texts (``target``, ``unseen``).

        A rare word occurs in no training document but those of its own set; a name does not occur there after the same
        :data:`PLACE` tokens.

        Raises:
            InputError: the corpus' tokenizer does not say where its tokens are in a text.
        """
        corpus = self._texts.corpus
        if not corpus.tokenizer.is_fast:
            raise InputError(f"{corpus.place}: words cannot be found in tokens, as its tokenizer gives no offsets")
        sets = self._only_there()
        pool = [p for places in sets.values() for p in places]
        found: dict[tuple[str, str], list[ClozeItem]] = {
            (f"{kind}, {form}", name): []
            for kind in (NAME, RARE)
            for form in _FORMS
            if (kind, form) != (RARE, "template")
            for name in sets
        }
        for name, places in sets.items():
            for kind in (NAME, RARE):
                of_kind = [p for p in places if p.kind == kind]
                random = np.random.default_rng([self._seed, len(of_kind)])
                for number in np.sort(random.permutation(len(of_kind))[: self._config.items]):
                    for form, item in self._forms(of_kind[number], pool, random):
                        found[f"{kind}, {form}", name].append(item)
        return found

    def _only_there(self) -> dict[str, list[_Place]]:
        """Places of the target and of unseen text that no training document outside of each has."""
        texts = self._texts
        target, unseen = (
            [place for i in numbers.tolist() for place in self._places(i)] for numbers in (texts.target, texts.unseen)
        )
        others = np.setdiff1d(np.flatnonzero(~texts.corpus.is_validation), texts.target)
        in_others = self._occur([*target, *unseen], others)
        in_target = np.concatenate([np.zeros(len(target), dtype=bool), self._occur(unseen, texts.target)])
        kept = [not there for there in in_others | in_target]
        return {
            "target": _each_word_once(list(compress(target, kept))),
            "unseen": _each_word_once(list(compress(unseen, kept[len(target) :]))),
        }

    def _places(self, document: int) -> Iterator[_Place]:
        corpus = self._texts.corpus
        text, tokens = corpus.text(document), corpus.tokens(document)
        encoded = corpus.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.array(encoded["input_ids"], dtype=np.int64)
        # The stored tokens have markers around; where the text does not give the same tokens again, places are unknown.
        lead = next((a for a in (0, 1) if np.array_equal(tokens[a : a + len(ids)], ids)), None)
        if lead is None:
            return
        for mention in mentions(text, encoded["offset_mapping"]):
            if mention.start >= PLACE:
                yield _Place(document, text, tokens[lead:], mention)

    def _occur(self, places: list[_Place], documents: np.ndarray) -> np.ndarray:
        """Whether each place, or rare word in any of its spellings, is in any of the documents."""
        words = {p.mention.word for p in places if p.kind == RARE}
        runs: dict[object, list[np.ndarray]] = {word: self._spellings(word) for word in words}
        runs |= {p: [p.tokens[p.mention.start - PLACE : p.mention.stop]] for p in places if p.kind == NAME}
        flat = [(owner, run) for owner, several in runs.items() for run in several]
        there = occurring((self._texts.corpus.tokens(i) for i in documents.tolist()), [run for _, run in flat])
        found = {owner for (owner, _), yes in zip(flat, there, strict=True) if yes}
        return np.array([(p.mention.word if p.kind == RARE else p) in found for p in places], dtype=bool)

    def _spellings(self, word: str) -> list[np.ndarray]:
        written = [f"{blank}{w}" for blank in ("", " ") for w in (word, word.capitalize(), word.upper())]
        tokenizer = self._texts.corpus.tokenizer
        return [np.array(tokenizer(w, add_special_tokens=False)["input_ids"], dtype=np.int64) for w in written]

    def _forms(self, place: _Place, pool: list[_Place], random: np.random.Generator) -> Iterator[tuple[str, ClozeItem]]:
        """The forms that an item can be given in, all with the same candidates; none if there are too few."""
        lower, needed = place.text.lower(), self._config.choices - 1
        others = {
            p.mention.word: p.answer
            for p in pool
            if p.kind == place.kind and len(p.answer) == len(place.answer) and p.mention.word.lower() not in lower
        }
        if len(others) < needed:
            return
        words = sorted(others)
        chosen = [others[words[i]] for i in random.permutation(len(words))[:needed]]
        candidates = np.stack([place.answer, *chosen])
        begin = place.mention.begin
        contexts = {
            "verbatim context": place.tokens[: place.mention.start],
            "reordered context": self._tokens(reordered(place.text, begin, place.mention.word, random)),
            "template": self._tokens(template(place.text[:begin])) if place.kind == NAME else None,
        }
        corpus = self._texts.corpus
        for form, context in contexts.items():
            if context is not None:
                context = context[-self._config.context :]
                sequence_id = int(corpus.sequence_ids[place.document])
                yield form, ClozeItem(corpus.documents[place.document], sequence_id, context, candidates)

    def _tokens(self, text: str | None) -> np.ndarray | None:
        if text is None:
            return None
        return np.array(self._texts.corpus.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)


def _each_word_once(places: list[_Place]) -> list[_Place]:
    """A rare word that several documents of a set have is one fact; a name is one in each."""
    seen: set[str] = set()
    found = []
    for place in places:
        word = place.mention.word
        if place.kind == NAME or word not in seen:
            found.append(place)
        seen.add(word)
    return found
