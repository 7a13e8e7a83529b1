"""What a removal cost: held-out text under each condition, and surviving sources before and after."""

from collections.abc import Sequence

from memsinks.audit.findings import Figure
from memsinks.auditing.verdicts import DELIVERED, HELD, Verdict

QUESTION = "What did it cost?"
_SHOWN = 3


def cost(figures: Sequence[Figure]) -> Verdict:
    """The answer, from losses."""
    losses = {(f.condition, f.texts): f for f in figures if f.section == "losses" and f.measure == "loss"}
    delivered = next((c for c in DELIVERED if any(key[0] == c for key in losses)), "")
    if not delivered:
        return Verdict(key="cost", question=QUESTION, answer="not measured", condition="", says="It was not measured.")
    return Verdict(
        key="cost",
        question=QUESTION,
        answer="measured",
        condition=delivered,
        says=" ".join([*_held_out(losses, delivered), *_survivors(losses, delivered)]),
        basis=("losses: loss",),
    )


def _held_out(losses: dict[tuple[str, str], Figure], delivered: str) -> list[str]:
    kinds = [texts for condition, texts in losses if condition == delivered and texts.startswith("held out: ")]
    if not kinds:
        return []
    others = [c for c in ("standard", "reference") if (c, kinds[0]) in losses]
    parts = []
    for texts in sorted(kinds, key=lambda t: -losses[delivered, t].number)[:_SHOWN]:
        own = losses[delivered, texts]
        beside = "".join(f", {losses[c, texts].value:.3f} for {c}" for c in others)
        name = texts.removeprefix("held out: ")
        parts.append(f"{'held-out text' if not name else f'held-out text of {name}'} {own.value:.3f}{beside}")
    return [f"In nats per token: {'; '.join(parts)}."]


def _survivors(losses: dict[tuple[str, str], Figure], delivered: str) -> list[str]:
    held = next((c for c in HELD if any(key[0] == c for key in losses)), "")
    rises = {
        texts.removeprefix("survivor: "): (losses[held, texts].value or 0, figure.value or 0)
        for (condition, texts), figure in losses.items()
        if condition == delivered and texts.startswith("survivor: ") and (held, texts) in losses
    }
    if delivered != "removed" or held != "own" or not rises:
        return []
    worst = sorted(rises, key=lambda name: rises[name][0] - rises[name][1])[:_SHOWN]
    shown = [f"{name or 'without a source'} {rises[name][0]:.3f} before, {rises[name][1]:.3f} after" for name in worst]
    return [f"Text of others with its own sinks, the most affected first: {'; '.join(shown)}."]
