"""A plan and a verification for people, as Markdown."""

from collections.abc import Iterator

from memsinks.removal.alternatives_text import alternatives_lines
from memsinks.removal.plan import RemovalPlan
from memsinks.removal.verification import Verification

_SHOWN = 15


def plan_text(plan: RemovalPlan) -> str:
    """What a removal would do, what it touches, and what has to be decided."""
    return "\n".join(_plan_lines(plan)) + "\n"


def verification_text(verification: Verification) -> str:
    """What the result shows."""
    lines = [f"## Verification: {verification.verdict}", ""]
    lines += [f"- **{check.verdict}**, {check.name}: {check.says}" for check in verification.checks]
    return "\n".join(lines) + "\n"


def _plan_lines(plan: RemovalPlan) -> Iterator[str]:
    yield f"# Removal from {plan.checkpoint}"
    yield ""
    yield f"Request: {plan.target.describe()}. Plan {plan.id}, made at {plan.time}."
    yield ""
    yield from _what_goes(plan)
    yield ""
    yield from _decisions(plan)
    yield "## What others lose"
    yield ""
    yield from _collateral(plan)
    yield ""
    yield "## Alternatives"
    yield ""
    yield from alternatives_lines(plan.alternatives)
    yield ""
    yield "## What else holds it"
    yield ""
    yield from _residue(plan)
    yield ""
    yield "## What the result has to show"
    yield ""
    limits = plan.thresholds
    yield (
        f"- The removed text is at most {limits.recall:g} nats per token, or {limits.share:.0%} of what its sinks "
        "held, easier than text that was never trained, with sinks off and with all that are left."
    )
    yield (
        f"- Given {limits.prefix} tokens, it comes out word for word ({limits.suffix} tokens) for at most "
        f"{limits.extraction:.0%} more documents than text that was never trained: greedily, and within "
        f"{limits.samples} samples."
    )
    yield f"- A surviving source's text gets at most {limits.survivors:g} nats per token harder with its own sinks."
    yield "- Every other file and every row that stays has its bits; no row that goes is in the file."


def _what_goes(plan: RemovalPlan) -> Iterator[str]:
    yield "## What goes"
    yield ""
    yield f"- {_counted(len(plan.ids), 'sequence ID')} and {_counted(plan.documents, 'document')} of the request"
    if plan.also:
        yield f"- {_counted(plan.also, 'document')} outside the request, by the decisions below"
    if plan.never_trained:
        yield f"- {_counted(plan.never_trained, 'document')} of the request were never trained: nothing to do"
    if plan.gone_before:
        yield f"- {_counted(plan.gone_before, 'document')} of the request were removed before: nothing to do"
    there, _, removed = (sum(column) for column in zip(*plan.rows, strict=True))
    layers = len(plan.rows)
    yield f"- {removed:,} of {there:,} rows of sinks, in {_counted(layers, 'layer')}; shared weights do not change"
    if len(plan.sources) > 1:
        shown = list(plan.sources.items())[:_SHOWN]
        more = f" and {len(plan.sources) - _SHOWN} more" if len(plan.sources) > _SHOWN else ""
        yield "- by source: " + ", ".join(f"{name or '(none)'} {count:,}" for name, count in shown) + more


def _decisions(plan: RemovalPlan) -> Iterator[str]:
    if not plan.decisions:
        return
    yield "## Decisions"
    yield ""
    for decision in plan.decisions:
        state = "**needed**" if decision.choice is None else f"{decision.choice}"
        yield f"- `--{decision.name}` ({state}): {decision.number:,} {decision.what}"
        if decision.examples:
            yield f"    - for example {', '.join(decision.examples)}"
        if decision.remove is not None:
            yield f"    - `remove`: {decision.remove}"
        yield f"    - `keep`: {decision.keep}; the removal is incomplete then, and its certificate says so"
    yield ""


def _collateral(plan: RemovalPlan) -> Iterator[str]:
    if plan.everything:
        yield "Nobody has sinks after this: the model is its shared part, which is what any ordinary loader reads."
        return
    if not plan.lost_most:
        yield f"{_counted(plan.survivors, 'ID')} stay. None of them loses a row."
    else:
        expected = "" if plan.lost_expected is None else f"; {plan.lost_expected:.1%} is expected of such a pool"
        among = "" if plan.measured == plan.survivors else f" (computed for {plan.measured:,} of them)"
        yield (
            f"{_counted(plan.survivors, 'ID')} stay. On average one loses {plan.lost_mean:.1%} of its rows, at most "
            f"{plan.lost_most:.1%}{among}{expected}."
        )
        if plan.lost_mean > 0.5:
            yield ""
            yield (
                "**Most of what others hold goes with it.** Dropping all sinks (`--everything`) costs little more, and "
                "leaves nothing behind."
            )
        yield ""
        yield "| source | IDs | mean loss | largest loss |"
        yield "|---|---|---|---|"
        for loss in plan.losses[:_SHOWN]:
            yield f"| {loss.source or '(none)'} | {loss.ids:,} | {loss.mean:.1%} | {loss.most:.1%} |"
    if plan.passages:
        yield ""
        yield (
            f"{_counted(plan.passages, 'document')} that stay share a passage with what goes; these passages stay with "
            "them. `memsinks why` shows them."
        )


def _residue(plan: RemovalPlan) -> Iterator[str]:
    for action, title in (("purge", "Purged"), ("list", "Outside the run's folders, to be dealt with by hand")):
        items = [item for item in plan.residue if item.action == action]
        if not items:
            continue
        yield f"{title}:"
        yield ""
        for item in items:
            yield f"- `{item.path}`: {item.what}" + (f"; {item.remedy}" if item.remedy else "")
        yield ""


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
