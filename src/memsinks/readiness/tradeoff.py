"""Question 3: does it pay to repeat this text, and what does it cost to keep it removable?"""

from memsinks.readiness.answer import Answer, Evidence, Finding, answer
from memsinks.readiness.trial import Compared, TrialOutcome

QUESTION = "Does repeating this text pay, and what does it cost to keep it removable?"
NOT_COVERED = (
    "Larger models and more text, where repetition may pay more or less: this is one small model and one seed, and the "
    "intervals are over passages. Skills other than the loss of held-out text."
)


def tradeoff(trial: TrialOutcome | None) -> Answer:
    """Judge by small paired runs, if they were asked for."""
    if trial is None:
        missing = Finding(
            grave=False,
            says="It was not tried on this corpus.",
            remedy="Ask for small paired runs with --trial.",
        )
        return answer("capability", QUESTION, [], [missing], well="", not_covered=NOT_COVERED, measured=False)
    evidence = [Evidence(what=f"trial: {what}", shown=shown, value=shown) for what, shown in trial.facts.items()]
    for what, found in (
        ("held-out text of the same sources: what repeating gains over showing each text once", trial.benefit),
        ("held-out text of the same sources: sinks off, over showing each text once", trial.domain_cost),
        ("other held-out text: sinks off, over standard training", trial.other_cost),
    ):
        if found is not None:
            evidence.append(found.evidence(f"trial: {what}, nats per token"))
    return answer(
        "capability",
        QUESTION,
        evidence,
        _findings(trial),
        well="Repeating this text makes the model better at other text of its sources, and with sinks off the model is "
        "no worse at it than one that saw each text once.",
        measured=trial.benefit is not None,
        not_covered=NOT_COVERED,
    )


def _findings(trial: TrialOutcome) -> list[Finding]:
    if trial.benefit is None:
        return [
            Finding(
                grave=False,
                says="Of the governed sources too little is held out, so that the trial cannot tell.",
                remedy="Hold out documents of each source when the corpus is prepared (--validation-column).",
            )
        ]
    found = []
    if not _above_zero(trial.benefit):
        harm = trial.benefit.interval.high < 0
        found.append(
            Finding(
                grave=False,
                says=f"In the trial repeating this text {'harms' if harm else 'does not improve'} other text of its "
                f"sources: {trial.benefit.shown} nats per token over showing each text once.",
                remedy="Show each text once (exposures.cap_id = 1), unless the model is to know it word for word.",
            )
        )
    if trial.domain_cost is not None and _above_zero(trial.domain_cost):
        found.append(
            Finding(
                grave=False,
                says=f"With sinks off the model is worse at other text of these sources than one that saw each text "
                f"once, by {trial.domain_cost.shown}: sinks took skill as well as memory.",
                remedy="Try a lower optimizer.sink_lr_multiplier, or govern only what has to be removable.",
            )
        )
    if trial.other_cost is not None and _above_zero(trial.other_cost):
        found.append(
            Finding(
                grave=False,
                says=f"With sinks off the model is worse at other text than one of standard training, by "
                f"{trial.other_cost.shown}.",
                remedy="Try other sinks (sinks.pool, sinks.active), or govern less text.",
            )
        )
    return found


def _above_zero(found: Compared) -> bool:
    return found.interval.low > 0
