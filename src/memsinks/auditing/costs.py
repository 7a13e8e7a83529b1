"""What a removal cost: held-out text under each condition, and surviving sources before and after."""

from collections.abc import Sequence

from memsinks.audit.findings import Figure
from memsinks.auditing.verdicts import DELIVERED, Verdict

QUESTION = "What did it cost?"
_SHOWN = 3


def cost(figures: Sequence[Figure]) -> Verdict:
    """The answer, from losses."""
    losses = {
        (f.condition, f.texts): f
        for f in figures
        if f.section == "losses" and f.measure == "loss" and f.value is not None
    }
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
    own = {texts: figure for (condition, texts), figure in losses.items() if condition == delivered}
    kinds = [texts for texts in own if texts.startswith("held out: ")]
    parts = []
    for texts in sorted(kinds, key=lambda t: -own[t].number)[:_SHOWN]:
        beside = [f", {losses[c, texts].value:.3f} for {c}" for c in ("standard", "reference") if (c, texts) in losses]
        name = texts.removeprefix("held out: ")
        parts.append(f"held-out text{f' of {name}' if name else ''} {own[texts].value:.3f}{''.join(beside)}")
    return [f"In nats per token: {'; '.join(parts)}."] if parts else []


def _survivors(losses: dict[tuple[str, str], Figure], delivered: str) -> list[str]:
    if delivered != "removed" or not any(condition == "own" for condition, _ in losses):
        return []
    rises = {
        texts.removeprefix("survivor: "): (before.value or 0.0, losses[delivered, texts].value or 0.0)
        for (condition, texts), before in losses.items()
        if condition == "own" and texts.startswith("survivor: ") and (delivered, texts) in losses
    }
    worst = sorted(rises, key=lambda name: rises[name][0] - rises[name][1])[:_SHOWN]
    shown = [f"{name or 'without a source'} {rises[name][0]:.3f} before, {rises[name][1]:.3f} after" for name in worst]
    return [f"Text of others with its own sinks, the most affected first: {'; '.join(shown)}."] if shown else []
