"""All questions about a run, asked and answered."""

from memsinks.corpus import consistency
from memsinks.planning.plan import RemovalPlan
from memsinks.readiness.deployment import Serving, deployment
from memsinks.readiness.facts import text_facts
from memsinks.readiness.metadata import reliability
from memsinks.readiness.report import Report
from memsinks.readiness.suitability import suitability
from memsinks.readiness.target import removal
from memsinks.readiness.threats import Attacker, threats
from memsinks.readiness.tradeoff import tradeoff
from memsinks.readiness.trial import TrialOutcome
from memsinks.training.run import TrainText


def readiness(
    plan: RemovalPlan,
    text: TrainText,
    *,
    attacker: Attacker = "weights",
    serving: Serving = "off",
    trial: TrialOutcome | None = None,
) -> Report:
    """Answer the six questions.

    Args:
        plan: of the run.
        text: of the run.
        attacker: what somebody who wants removed text holds.
        serving: how the model is to be served.
        trial: small paired runs, if they were asked for.

    Raises:
        InputError: the corpus was prepared before groups were kept.
    """
    return Report(
        config=plan.config,
        corpus=plan.corpus,
        answers=(
            suitability(text_facts(text)),
            reliability(text, consistency(text.corpus), plan.question.unit),
            tradeoff(trial),
            removal(plan),
            threats(plan, text.corpus, attacker, trial),
            deployment(plan, serving, trial),
        ),
        trial=trial,
    )
