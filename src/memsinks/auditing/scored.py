"""Token scores of the audited text and of what it is compared with, under any condition."""

from dataclasses import dataclass, field

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.audit.membership import matched
from memsinks.audit.token_scores import TokenScores, token_scores
from memsinks.auditing.bench import Bench
from memsinks.auditing.texts import FEW
from memsinks.training.run import bf16_pays

LEAST = 8
"""Tokens of the shortest text whose membership is asked about."""
SIDES = ("target", "unseen")


@dataclass(frozen=True, eq=False)
class Compared:
    """Two sets of texts.

    Attributes:
        target: numbers of documents that are audited.
        unseen: numbers of held-out documents of like length.
        matched: enough of them could be matched; else all held-out documents are there.
    """

    target: np.ndarray
    unseen: np.ndarray
    matched: bool

    @classmethod
    def of(cls, bench: Bench, tolerance: float) -> "Compared":
        """The texts of an audit but for the shortest, matched by length."""
        lengths = bench.texts.corpus.lengths
        target, unseen = (n[lengths[n] >= LEAST] for n in (bench.texts.target, bench.texts.unseen))
        chosen = matched(lengths[target], lengths[unseen], tolerance) if len(target) else np.array([], np.int64)
        enough = len(chosen) >= FEW
        return cls(target, unseen[chosen] if enough else unseen, enough)

    @property
    def sides(self) -> dict[str, np.ndarray]:
        """Both sets, by the name of their texts."""
        return dict(zip(SIDES, (self.target, self.unseen), strict=True))

    def at_most(self, documents: int, seed: int) -> "Compared":
        """As many of each set as are wanted, chosen at random."""
        random = np.random.default_rng(seed)
        target, unseen = (np.sort(random.permutation(n)[:documents]) for n in (self.target, self.unseen))
        return Compared(target, unseen, self.matched)

    def tokens(self, bench: Bench) -> int:
        """Of both sets together."""
        return sum(int(bench.texts.corpus.lengths[numbers].sum()) for numbers in self.sides.values())


def scored(bench: Bench, condition: str, texts: str, documents: list[TokenizedDocument]) -> list[TokenScores]:
    """Token scores of documents of a set of texts under a condition, read as in training."""
    subject = bench.opened(condition)
    return token_scores(
        subject.model,
        documents,
        mode=subject.mode_for(texts),
        max_length=bench.config.text.max_length,
        autocast=bf16_pays(),
    )


@dataclass(eq=False)
class Reference:
    """Scores under one condition that those of others are held against; computed when first asked for.

    Attributes:
        condition: its name.
        compared: the texts.
    """

    condition: str
    compared: Compared
    _found: dict[str, list[TokenScores]] = field(default_factory=dict, repr=False)

    def scores(self, bench: Bench, texts: str) -> list[TokenScores]:
        """Of the target or of the unseen text; the model that was in memory before goes."""
        if not self._found:
            for name, numbers in self.compared.sides.items():
                self._found[name] = scored(bench, self.condition, name, bench.texts.documents(numbers))
        return self._found[texts]
