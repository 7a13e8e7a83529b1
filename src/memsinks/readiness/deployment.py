"""Question 6: how is the model to be served, and does that hold?"""

from typing import Literal

from memsinks.planning.plan import RemovalPlan
from memsinks.readiness.answer import Answer, Evidence, Finding, answer
from memsinks.readiness.trial import TOO_SMALL, Compared, TrialOutcome
from memsinks.runs.estimate_table import in_words

Serving = Literal["off", "route", "fold"]
LIMIT = 0.05
"""Nats per token that other text may lose under sinks that are not its own."""
NAMES = {
    "off": "sinks off: the plain checkpoint",
    "route": "the sinks of chosen sources switched on for a request",
    "fold": "the sinks of chosen sources folded in for all requests",
}


def deployment(plan: RemovalPlan, serving: Serving, trial: TrialOutcome | None) -> Answer:
    """Judge the way of serving.

    Args:
        plan: of the run.
        serving: how the model is to be served.
        trial: small paired runs, if they were asked for.
    """
    config = plan.of_run.candidate.config
    each = plan.of_run.cost.parameters / int(config.pool) * int(config.active)
    evidence = [
        Evidence(what="to be served with", shown=NAMES[serving], value=serving),
        Evidence(
            what="parameters more for one ID whose sinks are on",
            shown=in_words(each),
            value=each,
        ),
    ]
    damage = None if trial is None or not trial.tells else trial.damage
    if damage is not None:
        evidence.append(
            damage.evidence("trial: what the governed text's sinks add to the loss of other text, nats per token")
        )
    return answer(
        "deployment",
        "How will the model be served?",
        evidence,
        _findings(serving, trial, damage),
        well=_well(serving),
        measured=serving == "off" or damage is not None,
        not_covered="Speed and memory of serving, and the server itself. Whether sinks of sources that were removed "
        "can be switched on again is a matter of the files that are kept: delete those of before.",
    )


def _well(serving: Serving) -> str:
    if serving == "off":
        return (
            "With sinks off the model is an ordinary checkpoint, the same bit for bit, and needs no code of its own to "
            "be served."
        )
    return f"Under sinks that are not its own, other text loses less than {LIMIT} nats per token in the trial."


def _findings(serving: Serving, trial: TrialOutcome | None, damage: Compared | None) -> list[Finding]:
    if serving == "off":
        return []
    if trial is not None and not trial.tells:
        return [TOO_SMALL]
    if damage is None:
        return [
            Finding(
                grave=False,
                says="What sinks do to text that is not theirs was not measured on this corpus.",
                remedy="Ask for small paired runs with --trial.",
            )
        ]
    if damage.interval.estimate <= LIMIT:
        return []
    grave = serving == "fold"
    return [
        Finding(
            grave=grave,
            says=f"In the trial other text loses {damage.shown} nats per token under sinks that are not its own; "
            f"{LIMIT} is the limit."
            + (" Folded in, they would be on for all text." if grave else " A request has to be routed to its own."),
            remedy="Serve with sinks off, or switch sinks on only for requests that belong to their source."
            if grave
            else "Have requests name their source, and serve all others with sinks off.",
        )
    ]
