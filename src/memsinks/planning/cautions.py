"""What must not be overlooked in a plan, in sentences that stand alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memsinks.planning.allocations import Assessment
from memsinks.planning.governed import GovernedText, Units
from memsinks.planning.overlap import ROUNDING
from memsinks.planning.question import Question
from memsinks.report.format import count, percent
from memsinks.sinks.config import SinkConfig

BITS = 3.6
"""Bits that a parameter of a GPT-style model can memorise (Morris et al. 2025, arXiv 2505.24832): measured there by
training whole models on random text, not on sinks."""
NAMED = 3
"""Sources that are named before the rest is only counted."""


@dataclass(frozen=True, kw_only=True)
class Caution:
    """Something that must not be overlooked.

    Attributes:
        code: a short name that stays the same.
        message: one or two sentences.
    """

    code: str
    message: str


def cautions(
    run: Assessment,
    text: GovernedText,
    units: Units,
    question: Question,
    *,
    stated: SinkConfig,
    likely: Sequence[str],
    vocabulary: int,
) -> list[Caution]:
    """What to say loudly about a run file and its corpus.

    Args:
        run: what the run file asks for.
        text: governed text.
        units: what can be removed.
        question: the deletion terms.
        stated: the pool as the run file says, which may lack rows.
        likely: sources that are expected to ask.
        vocabulary: tokens that the tokenizer knows.
    """
    found = {
        "overlap": _overlap(run, units, question),
        "likely": _likely_overlap(run, question),
        "owned rows": _owned_rows(run, stated),
        "one unit": _one_unit(units),
        "not governed": _not_governed(text, units, likely),
        "shared IDs": _shared_ids(units),
        "no source": _no_source(units),
        "capacity": _capacity(run, text, vocabulary),
    }
    return [Caution(code=code, message=message) for code, message in found.items() if message]


def _overlap(run: Assessment, units: Units, question: Question) -> str:
    most = len(run.curve) - 1
    too_much = run.curve > question.collateral + ROUNDING
    if question.terms == "together" or not too_much[most]:
        return ""
    first = int(np.argmax(too_much))
    lost, covered = percent(float(run.curve[most])), "the pool"
    whose = "every survivor's sinks"
    if run.candidate.name == "hybrid":
        covered, whose = "the sinks that IDs share", "the sinks of every survivor that shares them"
    on_average = "" if units.kind == "id" else ", on average,"
    return (
        f"{count(most)} of {count(len(units))} {units.name} cover {lost} of {covered}: removing them{on_average} takes "
        f"{lost} of {whose}. The {percent(question.collateral)} that survivors may lose is passed when "
        f"{count(first)} {'leaves' if first == 1 else 'leave'}."
    )


def _likely_overlap(run: Assessment, question: Question) -> str:
    if question.terms == "together" or run.likely is None or run.likely.expected <= question.collateral + ROUNDING:
        return ""
    return (
        f"The sources that are expected to ask have {count(run.likely.ids)} IDs: removing them takes "
        f"{percent(run.likely.mean)} of the sinks of those who stay, {percent(run.likely.worst)} of the worst hit; "
        f"{percent(question.collateral)} is allowed."
    )


def _owned_rows(run: Assessment, stated: SinkConfig) -> str:
    needed, there = int(run.candidate.config.owned), int(stated.owned)
    if needed <= there:
        return ""
    key = "sinks.owned" if stated.allocation == "hybrid" else "sinks.pool"
    return (
        f"Training will refuse this run file: {count(len(run.candidate.owners))} IDs own {count(int(stated.active))} "
        f"sinks a layer each, which takes {count(needed)}, and {key} gives them {count(there)}."
    )


def _one_unit(units: Units) -> str:
    if len(units) > 1:
        return ""
    return f"There is one governed {units.name.removesuffix('s')}: when it leaves, no governed text is left."


def _not_governed(text: GovernedText, units: Units, likely: Sequence[str]) -> str:
    """Text that trains with sinks off although its source is to be removable."""
    asked = list(likely) if units.kind == "id" else [n for n, s in text.sources.items() if s.governed or n in likely]
    partly = [name for name in asked if text.sources[name].governed < text.sources[name].documents]
    if not partly:
        return ""
    parts = [
        f"{name!r} ({count(text.sources[name].documents - text.sources[name].governed)} of "
        f"{count(text.sources[name].documents)} documents)"
        for name in partly[:NAMED]
    ]
    more = f" and {count(len(partly) - NAMED)} more" if len(partly) > NAMED else ""
    return (
        f"Text of {', '.join(parts)}{more} is not governed: it trains shared neurons with sinks off, and no removal "
        "reaches it. Set exposures.govern if it must be removable."
    )


def _shared_ids(units: Units) -> str:
    if not units.shared:
        return ""
    have = "ID belongs" if units.shared == 1 else "IDs belong"
    return (
        f"{count(units.shared)} {have} to several sources, through exact copies or a shared column: when one of them "
        "leaves, the others lose this text's sinks whole. Expected losses of several sources are upper bounds here."
    )


def _no_source(units: Units) -> str:
    if not units.unnamed:
        return ""
    return f"{count(units.unnamed)} governed IDs have no source: no request that names a source removes them."


def _capacity(run: Assessment, text: GovernedText, vocabulary: int) -> str:
    """A rule of thumb: real text is more predictable than assumed here, and sinks may hold less than assumed."""
    bits = math.log2(vocabulary)
    config = run.candidate.config
    each = run.cost.parameters / int(config.pool) * int(config.active)
    small = int((BITS * each < bits * text.tokens).sum())
    whole = BITS * run.cost.parameters < bits * float(text.tokens.sum())
    if not small and not whole:
        return ""
    what, key = (
        (f"The sinks of {count(small)} of {count(len(text))} IDs are too small to hold their text", "sinks.active")
        if small
        else ("The pool is too small to hold all governed text", "sinks.pool")
    )
    return (
        f"{what} word for word if none of it could be predicted ({BITS} bits a parameter, {bits:.1f} bits a token): "
        f"what does not fit may stay in shared neurons. Raise {key} or govern less text."
    )
