"""What an audit does not show, in sentences: what no audit shows, and what this one left out."""

from collections.abc import Sequence
from typing import Any

from memsinks.auditing.texts import FEW
from memsinks.auditing.verdicts import Verdict

ALWAYS = (
    "An attack that was not tried may find more; a stronger attacker has more compute, other prompts, or other models.",
    "Copies of the model from before the removal still hold the text.",
    "Facts, style and skill that shared neurons learned are not verbatim memory; removal does not take them away.",
    "Intervals speak of the choice of texts, not of another training with another seed.",
)


def limits(content: dict[str, Any], answers: Sequence[Verdict]) -> list[str]:
    """Of an audit, from what ``audit.json`` holds."""
    found = []
    names = {condition["name"] for condition in content["conditions"]}
    documents = content["target"]["documents"]
    if "reference" not in names:
        found.append(
            "No model that never saw the text was given, so it is compared with other text that was not trained, which "
            "may be easier or harder by itself (--against reference=FOLDER)."
        )
    if "standard" not in names and "model" not in names:
        found.append(
            "No model with ordinary training was given, so it is not shown how much of the text such training would "
            "have kept (--against standard=FOLDER)."
        )
    if documents < FEW:
        missed = "" if content["target"]["complete"] else " and rare leaks are missed,"
        found.append(f"Only {documents} documents were audited:{missed} comparisons with other text are coarse.")
    if not content["unseen"]["same_source"]:
        found.append("The text that was never trained is of other sources than the audited text.")
    unanswered = [answer.question for answer in answers if answer.answer == "not measured"]
    if unanswered:
        found.append("Not measured: " + " ".join(unanswered))
    if content["left_out"]:
        left_out = len(content["left_out"])
        found.append(f"{left_out} measurements were left out; the list of them says why.")
    return [*found, *ALWAYS]
