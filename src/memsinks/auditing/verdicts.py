"""Plain answers, from figures alone; no figure is chosen after it was seen.

A question may have many figures, one for each attack, and chance alone would let one of them stand out. So each figure
is held against what a model gives away of text it never saw, by a one-sided test, and Holm's correction keeps the
chance that any of a question's figures accuses an innocent model at 5 % or less. "No" needs more than a failed test:
the interval of every figure has to end near what is expected by chance. Where every document that was asked about was
tried, a rate is what it is and needs no interval.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from memsinks.audit.findings import Figure

Answer = Literal["yes", "no", "not sure", "not measured", "measured"]
LEVEL = 0.05
NEAR = {"rate": 0.1, "AUC": 0.1, "nats per token": 0.1}
"""How far above chance the end of an interval may lie for a "no", by unit."""
Z = NormalDist().inv_cdf(0.975)
HELD, DELIVERED = ("own", "standard", "model"), ("removed", "off", "model")
"""Conditions that hold the text, and those that are handed out: the first that was measured stands for the question."""

_QUESTIONS = (
    ("held", "extractable", HELD, "Does the model hold the text before anything is removed?"),
    ("extractable", "extractable", DELIVERED, "Can the text be extracted from the model that is handed out?"),
    ("member", "member", DELIVERED, "Can it be told that the model was trained on the text?"),
    ("returns", "returns", DELIVERED, "Does the text come back with less training than new text needs?"),
    ("influence", "influence", DELIVERED, "Does what the text taught about its source remain?"),
    ("facts", "facts", DELIVERED, "Does the model know facts that only this text states?"),
    ("persists", "persists", DELIVERED, "Does the text reappear after further training on other text?"),
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An answer.

    Attributes:
        key: short.
        question: for people.
        answer: yes, no, not sure, or not measured; measured where no yes or no answers it.
        condition: of the model that it speaks of.
        says: in a sentence or two, with figures.
        basis: measures that decided it.
    """

    key: str
    question: str
    answer: Answer
    condition: str
    says: str
    basis: tuple[str, ...] = ()


def verdicts(figures: Sequence[Figure], *, complete: bool) -> list[Verdict]:
    """The answers of an audit, but for :func:`~memsinks.auditing.costs.cost`.

    Args:
        figures: of the audit.
        complete: all of the text that was asked about was tried; a rate is then no estimate of that of other text.
    """
    answers = [_answer(key, question, tag, places, figures, complete) for key, tag, places, question in _QUESTIONS]
    # Of a plain model there is only one state, so that both questions about extraction are one.
    if answers[0].condition == answers[1].condition != "":
        answers = answers[1:]
    return answers


def _answer(
    key: str, question: str, tag: str, places: Sequence[str], figures: Sequence[Figure], complete: bool
) -> Verdict:
    tagged = [f for f in figures if f.question == tag and f.value is not None and f.texts != "unseen"]
    condition = next((place for place in places if any(f.condition == place for f in tagged)), "")
    tests = [_Test(figure, expected(figure, figures), complete) for figure in tagged if figure.condition == condition]

    def verdict(answer: Answer, says: str, decided: Sequence[_Test] = ()) -> Verdict:
        basis = tuple(test.name for test in decided)
        return Verdict(key=key, question=question, answer=answer, condition=condition, says=says, basis=basis)

    if not tests:
        return verdict("not measured", "It was not measured.")
    found = holm(tests)
    if found:
        strongest = min(found, key=lambda test: test.p)
        says = f"{len(found)} of {len(tests)} measures stand out; most clearly {strongest.says}."
        if tag == "member" and _shifted(figures) and not _has_reference(figures):
            return verdict("not sure", f"{says} {_SHIFT}", found)
        return verdict("yes", says, found)
    wide = [test for test in tests if test.reach > NEAR.get(test.figure.unit, 0.0)]
    farthest = max(wide or tests, key=lambda test: test.reach)
    if wide:
        says = (
            f"None of {len(tests)} measures stands out, but {len(wide)} cannot rule it out, least of all "
            f"{farthest.says}: {farthest.figure.number} documents or trials are few."
        )
        return verdict("not sure", says, wide)
    says = (
        f"None of {len(tests)} measures stands out, and all intervals end near chance; the highest is {farthest.says}."
    )
    return verdict("no", says, tests)


_SHIFT = (
    "But the two sets of texts can be told apart without any model, so this may be a difference between the texts; "
    "give a model that never saw the text (--against reference=FOLDER)."
)
_CHANCE = "chance"


def expected(figure: Figure, figures: Iterable[Figure]) -> Figure:
    """What the same measure gives of text that the model never saw.

    The larger of what there is: the same measure on unseen text, on the same text for a model that never saw it, and
    chance.
    """
    found = []
    for other in figures:
        if (other.section, other.measure) != (figure.section, figure.measure) or other.value is None:
            continue
        unseen = other.condition == figure.condition and (figure.texts, other.texts) == ("target", "unseen")
        never = other.condition == "reference" != figure.condition and other.texts == figure.texts
        if unseen or never:
            found.append(other)
    if figure.chance is not None or not found:
        found.append(replace(figure, condition=_CHANCE, value=figure.chance or 0.0, low=None, high=None, number=0))
    return max(found, key=lambda f: f.value or 0.0)


@dataclass(frozen=True, eq=False)
class _Test:
    """A figure against what is expected of it; both have values."""

    figure: Figure
    expected: Figure
    complete: bool

    @property
    def name(self) -> str:
        return f"{self.figure.section}: {self.figure.measure}"

    @property
    def values(self) -> tuple[float, float]:
        assert self.figure.value is not None
        assert self.expected.value is not None
        return self.figure.value, self.expected.value

    @property
    def says(self) -> str:
        (own, other), figure, expected = self.values, self.figure, self.expected
        between = "" if figure.low is None else f", {figure.low:.3g} to {figure.high:.3g}"
        against = {_CHANCE: "by chance", figure.condition: "for unseen text"}.get(
            expected.condition, "in a model that never saw it"
        )
        return f"{figure.measure} ({own:.3g} {figure.unit}{between}; {other:.3g} {against})"

    @property
    def p(self) -> float:
        """One-sided: how likely so large a difference is if nothing is known."""
        (own, other), figure, expected = self.values, self.figure, self.expected
        if figure.unit == "rate" and figure.number:
            successes = round(own * figure.number)
            if expected.number:
                return _fisher(successes, figure.number, round(other * expected.number), expected.number)
            return _binomial(successes, figure.number, other)
        # An interval near the end of a scale is lopsided: its side towards the other figure counts (MOVER, Zou and
        # Donner 2008, Statistics in Medicine 27).
        spread = math.hypot(_deviation(figure, figure.low), _deviation(expected, expected.high))
        if not math.isfinite(spread):
            return 1.0
        if spread == 0:
            return 0.0 if own > other else 1.0
        return 1 - NormalDist().cdf((own - other) / spread)

    @property
    def reach(self) -> float:
        """How far above what is expected the interval ends; a rate of all documents there are has none."""
        (own, other), high = self.values, self.figure.high
        return (own if high is None or (self.complete and self.figure.unit == "rate") else high) - other


def holm(tests: Sequence[_Test]) -> list[_Test]:
    """Those that stand out among all, with the chance of any false one at :data:`LEVEL` (Holm 1979)."""
    found = []
    for rank, test in enumerate(sorted(tests, key=lambda t: t.p)):
        if test.p > LEVEL / (len(tests) - rank):
            break
        found.append(test)
    return found


def _deviation(figure: Figure, end: float | None) -> float:
    """Standard deviation of a figure, from one end of its interval; none for chance, unknown without one."""
    if figure.condition == _CHANCE:
        return 0.0
    if figure.value is None or end is None:
        return math.inf
    return abs(figure.value - end) / Z


def _fisher(a: int, n: int, b: int, m: int) -> float:
    """Fisher's exact test of ``a`` of ``n`` against ``b`` of ``m``, one-sided."""
    return sum(math.comb(n, k) * math.comb(m, a + b - k) for k in range(a, min(n, a + b) + 1)) / math.comb(n + m, a + b)


def _binomial(successes: int, trials: int, chance: float) -> float:
    """That so many or more of the trials succeed by chance."""
    if not 0 < chance < 1:
        return 1.0 if chance >= 1 or successes == 0 else 0.0

    def term(k: int) -> float:
        # By logarithms: from about a thousand trials on a binomial coefficient is no float.
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return math.exp(ways + k * math.log(chance) + (trials - k) * math.log1p(-chance))

    return min(1.0, math.fsum(term(k) for k in range(successes, trials + 1)))


def _shifted(figures: Iterable[Figure]) -> bool:
    """Whether texts can be told apart without a model."""
    return any(f.question == "shift" and f.low is not None and f.low > (f.chance or 0.5) for f in figures)


def _has_reference(figures: Iterable[Figure]) -> bool:
    return any(f.condition == "reference" and f.question == "member" for f in figures)
