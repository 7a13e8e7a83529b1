"""Plain-language answers, computed from a run's numbers and held against its targets.

Each question looks for targets by name; a target of another name appears in the page's list of targets only.

============================ ===========================================================================
standard_memorises           the standard arm's repeated loss over its validation loss
standard_extractable         the rate at which the standard arm's stories are extracted
sinks_hold                   repeated loss with own sinks over validation loss
forgetting                   R_off / R_unseen
sinks_off_not_extractable    the rate at which stories are extracted with sinks off
cost_to_deduplicated         validation loss, sinks off, over the deduplicated arm's
cost_to_standard             validation loss, sinks off, over the standard arm's
============================ ===========================================================================
"""

from dataclasses import dataclass
from typing import Literal

from memsinks.report.format import count, number, percent
from memsinks.report.schema import Results, Target

BASIS = ("standard_memorises", "standard_extractable")

Outcome = Literal["met", "partly", "missed", "none"]


@dataclass(frozen=True)
class Verdict:
    """One question, a short answer, the numbers behind it, and the targets it was held against."""

    question: str
    outcome: Outcome
    answer: str
    detail: str
    targets: tuple[Target, ...]


def verdicts(results: Results) -> list[Verdict]:
    """Held with sinks on? Gone with them off? Extractable? At what cost?"""
    return [_held(results), _gone(results), _extractable(results), _cost(results)]


def basis_warning(results: Results) -> str:
    """Why the verdicts say little, if the standard arm did not memorise as it should have; else empty."""
    missed = [t for t in results["targets"] if t["name"] in BASIS and not t["met"]]
    if not missed:
        return ""
    return (
        "Read the answers below with care: the standard model itself did not memorise as clearly as the test wants, so "
        "there was less to remove. Missed: " + "; ".join(describe(t) for t in missed) + "."
    )


def describe(target: Target) -> str:
    """A target's words and numbers."""
    side = {"at_least": "at least", "at_most": "at most", "below": "below"}[target["direction"]]
    return f"{target['text']} ({short(target['value'])}; wanted {side} {short(target['limit'])})"


def short(value: float) -> str:
    """Three digits without trailing zeros."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _judge(results: Results, names: tuple[str, ...], met: str, partly: str, missed: str) -> tuple[Outcome, str, tuple]:
    found = tuple(t for t in results["targets"] if t["name"] in names)
    reached = sum(t["met"] for t in found)
    if not found:
        return "none", "Measured, but this run set no target for it.", found
    if reached == len(found):
        return "met", met, found
    return ("partly", partly, found) if reached else ("missed", missed, found)


def _held(results: Results) -> Verdict:
    sinks, standard = results["arms"]["sinks"], results["arms"]["standard"]
    outcome, answer, targets = _judge(
        results,
        ("sinks_hold",),
        "Yes: with its sinks on, the model holds them.",
        "",
        "Not well enough: with its sinks on, the model remembers less than the target asks.",
    )
    detail = (
        f"With each story's own sinks on, the loss on the repeated stories is {number(sinks['repeated_loss']['own'])} "
        f"nats per token (standard training: {number(standard['repeated_loss'])}), and "
        f"{percent(results['extraction']['sinks_own'])} of them can be drawn out word for word. On stories that the "
        f"model never saw, its loss is {number(sinks['validation_loss']['off'])} with sinks off."
    )
    return Verdict("Does the model remember the repeated stories while sinks are on?", outcome, answer, detail, targets)


def _gone(results: Results) -> Verdict:
    sinks, unseen = results["arms"]["sinks"], results["arms"]["deduplicated"]
    outcome, answer, targets = _judge(
        results,
        ("forgetting",),
        "Yes: switching the sinks off takes the memory away.",
        "",
        "Not fully: with sinks off, the model still knows more of them than the target allows.",
    )
    if outcome == "met" and _held(results).outcome == "missed":
        outcome, answer = "partly", "With sinks off it is not there, but too little of it was there with sinks on."
    detail = (
        f"With sinks off, the loss on the repeated stories goes from {number(sinks['repeated_loss']['own'])} to "
        f"{number(sinks['repeated_loss']['off'])}. The model that saw each of them only once is at "
        f"{number(unseen['repeated_loss'])}, so forgetting is {number(results['forgetting'])} (1: as if seen once)."
    )
    return Verdict("Is the memory gone when sinks are off?", outcome, answer, detail, targets)


def _extractable(results: Results) -> Verdict:
    rates, protocol = results["extraction"], results["extraction_protocol"]
    outcome, answer, targets = _judge(
        results,
        ("sinks_off_not_extractable",),
        "No more than the target allows, with sinks off.",
        "",
        "Yes: with sinks off, more of it comes out than the target allows.",
    )
    if outcome == "met" and rates["sinks_off"] == 0:
        answer = "No: with sinks off, no repeated story comes out word for word."
    detail = (
        f"Given the first {protocol['prefix']} tokens of a repeated story, the standard model writes the next "
        f"{protocol['suffix']} exactly for {percent(rates['standard'])} of the stories; the model with sinks does for "
        f"{percent(rates['sinks_own'])} with sinks on and {percent(rates['sinks_off'])} with sinks off."
    )
    return Verdict("Can the repeated stories be extracted?", outcome, answer, detail, targets)


def _cost(results: Results) -> Verdict:
    arms = results["arms"]
    ours = arms["sinks"]["validation_loss"]["off"]
    outcome, answer, targets = _judge(
        results,
        ("cost_to_deduplicated", "cost_to_standard"),
        "No more than the targets allow.",
        "More than one of the two targets allows.",
        "More than the targets allow.",
    )
    detail = (
        f"With sinks off, validation loss after {count(arms['sinks']['steps'])} steps is {number(ours)}, "
        f"{_compared(ours, arms['deduplicated']['validation_loss'])} the deduplicated model's "
        f"{number(arms['deduplicated']['validation_loss'])} ({count(arms['deduplicated']['steps'])} steps), "
        f"{_compared(ours, arms['deduplicated_equal_steps']['validation_loss'])} its "
        f"{number(arms['deduplicated_equal_steps']['validation_loss'])} at as many steps as standard, and "
        f"{_compared(ours, arms['standard']['validation_loss'])} the standard model's "
        f"{number(arms['standard']['validation_loss'])}."
    )
    return Verdict("What did it cost in general skill?", outcome, answer, detail, targets)


def _compared(ours: float, theirs: float) -> str:
    ratio = ours / theirs - 1
    if abs(ratio) < 0.0005:
        return "equal to"
    return f"{percent(abs(ratio))} {'above' if ratio > 0 else 'below'}"
