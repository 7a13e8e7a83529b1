"""The first screen: what was audited, the answers, what it cost, and what is not proven."""

from dataclasses import dataclass

from memsinks.report.audit.content import Answer, AuditContent
from memsinks.report.audit.cost import cost_lines
from memsinks.report.audit.shown import day
from memsinks.report.format import count

LIMITS_SHOWN = 3
_TITLE = 90
_WORDS = {"yes": "Yes", "no": "No", "not sure": "Not sure"}
_SYMBOLS = {"met": "✓", "missed": "!", "partly": "?", "told": "•"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """An answer as it is shown.

    Attributes:
        outcome: ``met`` if the answer is what a removal wants, ``missed`` if not, ``partly`` if unsure, ``told`` where
            nothing is wanted.
        symbol, word: of the answer; colour is never alone.
        question, says: of the verdict.
        of: the model it speaks of, in words.
        basis: measures that decided it.
    """

    outcome: str
    symbol: str
    word: str
    question: str
    says: str
    of: str
    basis: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What stands on the first screen.

    Attributes:
        title: of the page.
        facts: label and text.
        answers: those that were found.
        cost: in sentences; none if it was not measured.
        unanswered: questions that were not measured.
        limits: the first of what is not shown.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    answers: tuple[Row, ...]
    cost: tuple[str, ...]
    unanswered: tuple[str, ...]
    limits: tuple[str, ...]


def summary(audit: AuditContent) -> Summary:
    """The first screen of an audit."""
    asked = audit.target.asked
    short = asked if len(asked) <= _TITLE else asked[:_TITLE].rsplit(" ", 1)[0] + " …"
    still = "still " if _removed_where(audit) else ""
    cost = next((v for v in audit.verdicts if v.key == "cost"), None)
    rest = [v for v in audit.verdicts if v.key != "cost"]
    unanswered = tuple(v.question for v in rest if v.answer == "not measured")
    # The list of limits names them in one sentence; here they stand by themselves.
    limits = [limit for limit in audit.limits if not any(question in limit for question in unanswered)]
    return Summary(
        title=f"What the model “{audit.run.name}” {still}holds of {short}",
        facts=_facts(audit),
        answers=tuple(answer_row(v, audit) for v in rest if v.answer != "not measured"),
        cost=() if cost is None or cost.answer == "not measured" else _cost(audit, cost),
        unanswered=unanswered,
        limits=tuple(limits[:LIMITS_SHOWN]),
    )


def answer_row(verdict: Answer, audit: AuditContent) -> Row:
    """A verdict that was reached, as it is shown."""
    if verdict.answer == "not sure":
        outcome = "partly"
    elif verdict.key == "held":
        # What was never held cannot be removed, so that "no" leaves an audit of a removal without a subject.
        outcome = "told" if verdict.answer == "yes" else "partly"
    else:
        outcome = {"yes": "missed", "no": "met"}.get(verdict.answer, "told")
    says = {condition.name: condition.says for condition in audit.conditions}
    return Row(
        outcome=outcome,
        symbol=_SYMBOLS[outcome],
        word=_WORDS.get(verdict.answer, verdict.answer),
        question=verdict.question,
        says=verdict.says,
        of=f"{verdict.condition}: {says[verdict.condition]}" if verdict.condition in says else verdict.condition,
        basis=verdict.basis,
    )


def _cost(audit: AuditContent, verdict: Answer) -> tuple[str, ...]:
    return cost_lines(audit.figures, verdict.condition) or (verdict.says,)


def _facts(audit: AuditContent) -> tuple[tuple[str, str], ...]:
    target, run = audit.target, audit.run
    least, most = target.least_exposures, target.most_exposures
    seen = f"{count(least)}" if least == most else f"{count(least)} to {count(most)}"
    tried = _counted(target.documents, "document")
    if not target.complete:
        tried = f"only the {count(target.documents)} most exposed documents"
    text = (
        f"{target.asked}: {tried}, {_counted(target.tokens, 'token')}, each trained {seen} "
        f"time{'' if most == 1 else 's'}"
    )
    model = f"{run.name} ({run.family}, {_large(run.parameters)} parameters)"
    where = _removed_where(audit)
    return (
        ("Removed" if where else "Audited", text),
        ("From", model),
        ("When", f"{where or 'nothing was removed'}; audited on {day(audit.time)}"),
    )


def _removed_where(audit: AuditContent) -> str:
    """Where and when the text was removed; empty if nothing was."""
    if audit.target.removed:
        removals = audit.lineage.removals if audit.lineage is not None else ()
        days = list(dict.fromkeys(day(removal.time) for removal in removals))
        if len(days) > 1:
            # The lineage does not say which of them took this text.
            return f"from the saved model, which had removals on {' and '.join(days)}"
        return f"from the saved model, on {days[0]}" if days else "from the saved model"
    removed = next((c for c in audit.conditions if c.name == "removed"), None)
    if removed is None:
        return ""
    if removed.in_memory:
        return "in memory: the saved model still holds it"
    return f"in another copy, {removed.model}: the run itself still holds it"


def _counted(number: int, what: str) -> str:
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def _large(number: int) -> str:
    for size, name in ((1_000_000_000, "billion"), (1_000_000, "million")):
        if number >= size:
            return f"{number / size:.1f} {name}"
    return count(number)
