"""Question 5: against whom does removal have to hold?"""

from typing import Literal

from memsinks.corpus import Corpus
from memsinks.planning.plan import RemovalPlan
from memsinks.readiness.answer import Answer, Evidence, Finding, answer
from memsinks.readiness.trial import TOO_SMALL, TrialOutcome
from memsinks.report.format import percent

Attacker = Literal["outputs", "weights", "sinks"]
HELD = {
    "outputs": "the answers of a model that is served",
    "weights": "the weights of the plain checkpoint, and can train them on",
    "sinks": "the sinks too, from before a removal",
}
FORGOTTEN, RECOVERED = 0.95, 0.9
"""Shares of a never-seen model's loss below which text counts as remembered with sinks off, and as coming back after
relearning."""


def threats(plan: RemovalPlan, corpus: Corpus, attacker: Attacker, trial: TrialOutcome | None) -> Answer:
    """Judge what an attacker gets.

    Args:
        plan: of the run.
        corpus: of the run.
        attacker: what somebody who wants the removed text holds.
        trial: small paired runs, if they were asked for.
    """
    keyed = bool(corpus.manifest["config"]["keyed"])
    base = plan.config.model.pretrained
    evidence = [
        Evidence(what="an attacker holds", shown=HELD[attacker], value=attacker),
        Evidence(what="IDs are keyed", shown="yes" if keyed else "no", value=keyed),
        Evidence(what="begins with a pretrained model", shown=base or "no", value=base),
    ]
    if trial is not None:
        evidence += [
            Evidence(
                what="trial: governed passages that come out word for word: standard, sinks on, sinks off, never seen",
                shown=", ".join(f"{percent(rate)}" for rate in trial.extracted.values()) + f", of {trial.tried:,}",
                value=trial.extracted | {"tried": trial.tried},
            ),
            trial.memorised.evidence("trial: loss of the governed passages, standard over never seen"),
            trial.forgotten.evidence("trial: forgetting: their loss, sinks off over never seen"),
        ]
        if trial.relearned is not None:
            evidence.append(
                Evidence(
                    what="trial: loss of one half of the governed passages after a few steps on the other: standard, "
                    "sinks off, never seen",
                    shown=", ".join(f"{value:.2f}" for value in trial.relearned.values()),
                    value=trial.relearned,
                )
            )
    return answer(
        "threats",
        "Against whom does removal have to hold, and does it?",
        evidence,
        _findings(attacker, keyed, base, trial),
        well="In the trial governed text comes out no more with sinks off than from a model that never saw it, and "
        "relearning one half does not bring the other half back.",
        measured=attacker == "sinks" or (trial is not None and trial.tells),
        not_covered="Attacks beyond greedy extraction and one course of relearning: sampling, optimised prompts, "
        "membership inference, quantised weights. The trial's model is small; audit the trained model itself. Copies "
        "of a checkpoint from before a removal keep what they have.",
    )


def _findings(attacker: Attacker, keyed: bool, base: str | None, trial: TrialOutcome | None) -> list[Finding]:
    found = []
    if attacker == "sinks":
        found.append(
            Finding(
                grave=True,
                says="Whoever holds the sinks and a text's ID can switch its memory on: sinks are that memory.",
                remedy="Publish the plain checkpoint alone, keep the sinks apart, and delete them after a removal.",
            )
        )
    if not keyed:
        found.append(
            Finding(
                grave=False,
                says="IDs are plain hashes: who has a text and the run's lists of IDs can tell whether it was in "
                "training.",
                remedy="Prepare the corpus with a secret (--id-key-variable), or keep the lists private.",
            )
        )
    if base is not None:
        found.append(
            Finding(
                grave=False,
                says=f"What {base} knew before training is in shared weights, and no removal takes it away.",
                remedy="Measure the governed text under the pretrained model before it trains.",
            )
        )
    if trial is None:
        if attacker != "sinks":
            found.append(
                Finding(
                    grave=False,
                    says="What comes out with sinks off was not measured on this corpus.",
                    remedy="Ask for small paired runs with --trial.",
                )
            )
        return found
    if not trial.tells:
        return [*found, TOO_SMALL]
    remedy = "Give governed text more or faster sinks (sinks.pool, optimizer.sink_lr_multiplier)."
    if trial.extracted["off"] > trial.extracted["unseen"]:
        found.append(
            Finding(
                grave=True,
                says=f"In the trial {percent(trial.extracted['off'])} of the governed passages come out with sinks "
                f"off, and {percent(trial.extracted['unseen'])} from a model that never saw them.",
                remedy=remedy,
            )
        )
    if trial.forgotten.interval.high < FORGOTTEN:
        found.append(
            Finding(
                grave=False,
                says=f"In the trial governed text is easier with sinks off than for a model that never saw it: "
                f"{trial.forgotten.shown} of its loss.",
                remedy=remedy,
            )
        )
    if attacker != "outputs" and trial.comes_back(RECOVERED):
        found.append(
            Finding(
                grave=False,
                says="In the trial relearning one half of the governed passages brings some of the other half back.",
                remedy=remedy,
            )
        )
    return found
