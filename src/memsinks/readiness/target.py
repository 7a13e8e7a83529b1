"""Question 4: what can be removed, and what does a removal take from the rest?"""

from memsinks.planning.plan import RemovalPlan
from memsinks.planning.tables import TERMS
from memsinks.readiness.answer import Answer, Evidence, Finding, answer, counted
from memsinks.report.format import percent

GRAVE = {"owned rows", "not governed", "no source"}
"""Cautions of a plan without whose cure training is refused, or a request cannot be met."""
JUDGED = {"overlap", "likely"}
"""Cautions that say what the judgement of the allocation says already."""


def removal(plan: RemovalPlan) -> Answer:
    """Judge what a run's sinks can give up."""
    run, question, units = plan.of_run, plan.question, plan.units
    config = run.candidate.config
    one = units.name.removesuffix("s")
    evidence = [
        Evidence(what="a request removes", shown=f"{'an' if units.kind == 'id' else 'a'} {one}", value=units.kind),
        counted(f"{units.name} that can be removed", len(units)),
        Evidence(what="deletion terms", shown=TERMS[question.terms].format(one=one), value=question.terms),
        Evidence(
            what="sinks of the run file: allocation, in a layer, of one ID",
            shown=f"{run.candidate.name}, {int(config.pool):,}, {int(config.active):,}",
            value={"allocation": run.candidate.name, "sinks": int(config.pool), "active": int(config.active)},
        ),
        *(
            Evidence(
                what=f"sinks that a survivor loses, {units.some(loss.removed)} removed",
                shown=percent(loss.expected),
                value=loss.expected,
            )
            for loss in run.losses
        ),
        Evidence(
            what="the loss that these terms ask about, and that is allowed",
            shown=f"{percent(run.collateral)}, {percent(question.collateral)}",
            value={"lost": run.collateral, "allowed": question.collateral},
        ),
        Evidence(
            what="recommended",
            shown="as in the run file" if plan.recommendation.as_in_run else plan.recommendation.allocation,
            value={"settings": plan.recommendation.settings, "fits": plan.recommendation.fits},
        ),
    ]
    return answer(
        "removal",
        "What can be removed, and what does a removal take from the others?",
        evidence,
        _findings(plan),
        well=f"Any of {len(units):,} {units.name} can leave within the deletion terms.",
        not_covered="How much of a text its sinks will hold: that is measured after training. A fraction of sinks is "
        "not a fraction of memory. Facts and style that shared neurons learn stay. `memsinks plan` has every number.",
    )


def _findings(plan: RemovalPlan) -> list[Finding]:
    run, found = plan.of_run, []
    if not run.within:
        found.append(
            Finding(
                grave=True,
                says=f"Under {run.candidate.name} allocation a survivor loses {percent(run.collateral)} of its sinks "
                f"under these terms, where {percent(plan.question.collateral)} is allowed.",
                remedy=_change(plan),
            )
        )
    elif not plan.recommendation.as_in_run:
        found.append(
            Finding(
                grave=False,
                says=f"The run file keeps to the terms; {plan.recommendation.allocation} allocation does so with fewer "
                "sinks.",
                remedy=_change(plan),
            )
        )
    return found + [
        Finding(grave=caution.code in GRAVE, says=caution.message)
        for caution in plan.cautions
        if caution.code not in JUDGED
    ]


def _change(plan: RemovalPlan) -> str:
    settings = ", ".join(line for line in plan.recommendation.settings.splitlines()[1:] if line)
    return f"Set [sinks] {settings}." + ("" if plan.recommendation.fits else " It needs more sinks than the run has.")
