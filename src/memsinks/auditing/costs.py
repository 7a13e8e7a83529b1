"""What a removal cost: other text under each condition, and surviving sources before and after."""

from collections.abc import Sequence

from memsinks.audit.findings import Figure
from memsinks.auditing.verdicts import DELIVERED, Verdict
from memsinks.report.audit.cost import cost_lines

QUESTION = "What did it cost?"


def cost(figures: Sequence[Figure]) -> Verdict:
    """The answer, from losses."""
    measured = {f.condition for f in figures if f.section == "losses" and f.measure == "loss" and f.value is not None}
    delivered = next((condition for condition in DELIVERED if condition in measured), "")
    if not delivered:
        return Verdict(key="cost", question=QUESTION, answer="not measured", condition="", says="It was not measured.")
    return Verdict(
        key="cost",
        question=QUESTION,
        answer="measured",
        condition=delivered,
        says=" ".join(["In nats per token:", *cost_lines(figures, delivered)]),
        basis=("losses: loss",),
    )
