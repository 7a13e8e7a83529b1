"""What a removal cost, in lines for the first screen: the same losses that the verdict on cost speaks of."""

from collections.abc import Sequence

from memsinks.audit.findings import Figure
from memsinks.report.audit.shown import figure

SURVIVORS_SHOWN = 2
_HELD_OUT, _SURVIVOR = "held out: ", "survivor: "


def cost_lines(figures: Sequence[Figure], delivered: str) -> tuple[str, ...]:
    """How hard other text is for the model that is handed out, beside what it is compared with, in nats per token.

    Args:
        figures: of the audit.
        delivered: condition of the model that is handed out.
    """
    losses = {
        (f.condition, f.texts): f
        for f in figures
        if f.section == "losses" and f.measure == "loss" and f.value is not None
    }
    return (*_held_out(losses, delivered), *_survivors(losses, delivered))


def _held_out(losses: dict[tuple[str, str], Figure], delivered: str) -> list[str]:
    own = [f for (condition, texts), f in losses.items() if condition == delivered and texts.startswith(_HELD_OUT)]
    if not own:
        return []
    largest = max(own, key=lambda f: f.number)
    beside = [
        f"{_value(losses[condition, largest.texts])} {words}"
        for condition, words in (("standard", "with ordinary training"), ("reference", "for the reference"))
        if (condition, largest.texts) in losses
    ]
    name = largest.texts.removeprefix(_HELD_OUT)
    return [f"Held-out text{f' of {name}' if name else ''}: {', '.join([_value(largest), *beside])}."]


def _survivors(losses: dict[tuple[str, str], Figure], delivered: str) -> list[str]:
    """Those that changed most for the worse; only a removal can take anything from them."""
    if delivered != "removed":
        return []
    pairs = [
        (losses["own", texts], after)
        for (condition, texts), after in losses.items()
        if condition == delivered and texts.startswith(_SURVIVOR) and ("own", texts) in losses
    ]
    rises = [(before, after) for before, after in pairs if _value(before) != _value(after)]
    worst = sorted(rises, key=lambda pair: (pair[0].value or 0) - (pair[1].value or 0))[:SURVIVORS_SHOWN]
    if pairs and not worst:
        return ["Text that stays, with its own sinks: as before."]
    return [
        f"{after.texts.removeprefix(_SURVIVOR) or 'Without a source'}, which stays: {_value(before)} before, "
        f"{_value(after)} after."
        for before, after in worst
    ]


def _value(found: Figure) -> str:
    return figure(found.value, found.unit)
