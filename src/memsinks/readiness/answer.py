"""One answer of a readiness report: a verdict, the figures behind it, what to do, and what it does not cover."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

Verdict = Literal["ready", "attention", "not ready", "not measured"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A measured figure.

    Attributes:
        what: was measured.
        shown: the figure, for reading.
        value: the same, for JSON.
    """

    what: str
    shown: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that speaks against a plain yes.

    Attributes:
        grave: it has to change before training; else it has to be known.
        says: what is wrong, in a sentence or two.
        remedy: what to do about it; empty where nothing can be done.
    """

    grave: bool
    says: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one of the questions.

    Attributes:
        code: a short name that stays the same.
        question: as an operator asks it.
        verdict: the worst of the findings, or that nothing was measured.
        says: the answer, in a sentence or two.
        evidence: figures.
        remedies: what to do.
        not_covered: what the answer does not say.
    """

    code: str
    question: str
    verdict: Verdict
    says: str
    evidence: tuple[Evidence, ...]
    remedies: tuple[str, ...]
    not_covered: str


def answer(
    code: str,
    question: str,
    evidence: list[Evidence],
    findings: list[Finding],
    *,
    well: str,
    not_covered: str,
    measured: bool = True,
) -> Answer:
    """An answer from what was found.

    Args:
        code, question, evidence, not_covered: of the answer.
        findings: what speaks against a plain yes, or why nothing was measured.
        well: what to say where nothing does.
        measured: whether there is anything to judge by.
    """
    ranked = sorted(findings, key=lambda finding: not finding.grave)
    verdict: Verdict = "ready" if not ranked else "not ready" if ranked[0].grave else "attention"
    return Answer(
        code=code,
        question=question,
        verdict=verdict if measured else "not measured",
        says=" ".join(finding.says for finding in ranked) or well,
        evidence=tuple(evidence),
        remedies=tuple(dict.fromkeys(finding.remedy for finding in ranked if finding.remedy)),
        not_covered=not_covered,
    )


def counted(what: str, value: int) -> Evidence:
    """A number of things."""
    return Evidence(what=what, shown=f"{value:,}", value=value)
