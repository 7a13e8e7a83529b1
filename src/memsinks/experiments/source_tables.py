"""Tables and figures of per-source removal."""

from collections.abc import Sequence

from memsinks.experiments.books import GENERAL, NOVELS
from memsinks.experiments.catalogue import Outcome, Table, arms_table
from memsinks.experiments.source_rows import REMOVED
from memsinks.experiments.story_arms import STANDARD, UNSEEN_STEPS
from memsinks.report.plots import Panel, Series

RETRAINED, BY_SOURCE, LORA = "retrained", "by_source", "lora"
LABELS = {
    STANDARD.name: STANDARD.label,
    UNSEEN_STEPS.name: UNSEEN_STEPS.label,
    RETRAINED: "Retrained without the novel",
    BY_SOURCE: "Sinks by source",
    "by_source_own_rows": "Sinks by source, rows of their own",
    "own_rows_rate_2": "Sinks by source, rows of their own, learning rate x2",
    "own_rows_early_10": "Sinks by source, rows of their own, early layers, learning rate x10",
    "by_topic": "Sinks by topic",
    "routing": "Gradient routing by source",
    "sinks_after": "Sinks after training, base frozen",
    LORA: "LoRA after training, base frozen",
}
PLAIN = (STANDARD.name, RETRAINED, UNSEEN_STEPS.name)
"""Arms with nothing to switch off."""
MEANS = {"all": "mean", "retrained": "mean of those retrained without"}


def tables(outcome: Outcome) -> list[Table]:
    """Losses and extraction by novel, removal against retraining, and collateral."""
    means = "means weigh novels alike"
    off = (
        "Own: each novel with its sinks, or its adapter. Removed: after the rows of its key were set aside, which for "
        "the novel itself is the same sum as off (shown once); by topic, the whole topic is removed."
    )
    return [
        _by_novel(outcome, "Training chapters", "train", f"Nats per token; {means}. {off}"),
        _by_novel(outcome, "Held-out chapters", "held_out", f"Nats per token; {means}."),
        _by_novel(outcome, "Passages of training chapters extracted", "extraction", "By greedy decoding."),
        _removal(outcome),
        _collateral(outcome),
    ]


def _novels(outcome: Outcome) -> list[str]:
    """The novels that were measured, in order."""
    return [
        book
        for arm, measure, mode, _ in outcome.summary
        if (arm, mode) == (STANDARD.name, "plain")
        and measure.endswith("/train")
        and (book := measure.partition("/")[0]) in NOVELS
    ]


def _by_novel(outcome: Outcome, title: str, part: str, note: str) -> Table:
    rows = [(LABELS[arm], arm, "plain") for arm in PLAIN]
    for arm in LABELS:
        modes = ("own", "off", REMOVED) if arm == BY_SOURCE else ("own", REMOVED)
        rows += [(f"{LABELS[arm]}: {mode}", arm, mode) for mode in modes]
    names = {book: NOVELS[book].title for book in _novels(outcome)} | MEANS
    return arms_table(outcome, title, rows, {name: f"{group}/{part}" for group, name in names.items()}, note)


def _removal(outcome: Outcome) -> Table:
    rows = [(LABELS[arm], arm, "plain") for arm in PLAIN]
    rows += [(label, arm, REMOVED) for arm, label in LABELS.items() if arm not in PLAIN]
    columns = {
        "general text": GENERAL,
        "training chapters": "retrained/train",
        "over retrained": "over_gold",
        "forgetting, against retrained": "forgetting",
        "removable memory": "removable_memory",
        "trace left": "trace_left",
        "held-out chapters": "retrained/held_out",
        "held-out, over retrained": "held_out_over_gold",
    }
    note = (
        "After removal; means over the novels that a model was retrained without, in nats per token. General text: "
        "with sinks off or without adapters. Over retrained: the loss less that of the retrained model, 0 where "
        "removal is like retraining. Trace left: how much easier training chapters are than held-out ones, beyond the "
        "retrained model, as a share of that under standard training; what is lost of the language of both is not in "
        "it. Sinks and LoRA after training come on top of the steps of their base, which all "
        "other rows share; LoRA has one adapter for each novel, with about as many weights as its sinks."
    )
    return arms_table(outcome, "Removal against retraining", rows, columns, note)


def _collateral(outcome: Outcome) -> Table:
    columns = {
        "novels of other keys": "collateral",
        "the worst of them": "collateral_worst",
        "novels of the same key": "collateral_kin",
        "general text, sinks off": "collateral_general",
    }
    note = (
        "Nats per token that removing one key adds to the loss of training chapters of novels in mode own, mean over "
        "keys and novels; of general text the largest change of a row's summed loss, up or down. LoRA adapters are "
        "apart by construction."
    )
    rows = [(label, arm, REMOVED) for arm, label in LABELS.items() if arm not in (*PLAIN, LORA)]
    return arms_table(outcome, "What removal takes from others", rows, columns, note)


def figures(outcome: Outcome) -> dict[str, list[Panel]]:
    """Losses of each novel's training and held-out chapters, and what its removal takes from others."""
    books = _novels(outcome)
    shown = [
        ("standard training", STANDARD.name, "plain"),
        ("sinks by source: own", BY_SOURCE, "own"),
        ("sinks by source: removed", BY_SOURCE, REMOVED),
        ("retrained without it", RETRAINED, "plain"),
        ("never saw a novel", UNSEEN_STEPS.name, "plain"),
    ]
    panels = [
        _panel(outcome, title, "nats per token", books, [(*column, part) for column in shown])
        for title, part in (("Training chapters", "train"), ("Held-out chapters", "held_out"))
    ]
    arms = [(LABELS[arm], arm, REMOVED, "collateral") for arm in (BY_SOURCE, "by_source_own_rows", "by_topic")]
    title = "What removing a novel adds to novels of other keys"
    return {"sources": [*panels, _panel(outcome, title, "nats per token, sinks own", books, arms)]}


def _panel(
    outcome: Outcome, title: str, y_label: str, books: Sequence[str], columns: Sequence[tuple[str, str, str, str]]
) -> Panel:
    """Points of each column (label, arm, mode, measure) above each novel, side by side."""
    series = []
    for index, (label, arm, mode, measure) in enumerate(columns):
        aside = 0.12 * (index - (len(columns) - 1) / 2)
        found = [(i + aside, s) for i, b in enumerate(books) if (s := outcome.get(arm, f"{b}/{measure}", mode))]
        series.append(
            Series(
                label=label,
                x=[x for x, _ in found],
                y=[s.mean for _, s in found],
                low=[s.low for _, s in found],
                high=[s.high for _, s in found],
                joined=False,
            )
        )
    ticks = [NOVELS[book].title for book in books]
    return Panel(title=title, x_label="", y_label=y_label, series=[s for s in series if s.x], ticks=ticks)
