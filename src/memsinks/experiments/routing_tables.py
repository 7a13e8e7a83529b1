"""Tables and figures of routing."""

from memsinks.experiments.books import GENERAL, NOVELS
from memsinks.experiments.catalogue import Outcome, Table, arms_table, cell, points
from memsinks.experiments.source_rows import REMOVED
from memsinks.report.plots import Panel, Series

ARM = "by_source_own_rows"
OFF, ALL = "off", "all"
ROUTED, ORACLE, PLACEBO = "routed", "oracle", "placebo"
LENGTHS = (16, 32, 64, 128)
"""Tokens of the prompts on which routing is measured, as far as passages are twice as long."""
THRESHOLDS = (0.0, 0.01, 0.02, 0.04, 0.08)
"""On which routing is measured beside its own."""
MODES = {
    OFF: "Off",
    ROUTED: "Routed",
    ORACLE: "Oracle: the right novel's, off for general text",
    PLACEBO: "Placebo: a fixed other novel's",
    ALL: "All, scaled",
    REMOVED: "Routed after the novel's removal",
}
SETS = {"all/train": "training chapters", "all/held_out": "held-out chapters", GENERAL: "general text"}
RATES = (
    ("training chapters", "all/train", ROUTED),
    ("held-out chapters", "all/held_out", ROUTED),
    ("general text: none is right", GENERAL, ROUTED),
    ("training chapters of a removed novel: none is right", "all/train", REMOVED),
    ("held-out chapters of a removed novel: none is right", "all/held_out", REMOVED),
)


def tables(outcome: Outcome) -> list[Table]:
    """Losses by mode, what routing keeps, and rates by the length of the prompt."""
    losses = arms_table(
        outcome,
        "Loss of what follows the prompt",
        [(label, ARM, mode) for mode, label in MODES.items()],
        {label: measure for measure, label in SETS.items()} | {"general text, over off": f"{GENERAL}_change"},
        f"Nats per token after a prompt of {LENGTHS[2]} tokens, in passages longer than {LENGTHS[3]}; means over "
        "novels weigh them alike.",
    )
    threshold = outcome.get(ARM, "threshold")
    note = (
        "Prompts are beginnings of passages. Intervals on one seed are Wilson's, over prompts. Removed: the server "
        f"started after the novel's removal. The threshold: {cell(threshold, 4)}."
    )
    return [
        losses,
        _kept(outcome),
        _rates(outcome, "Prompts with the right sinks", "right", "{:.0f} tokens", note),
        _rates(outcome, "Prompts without sinks", "abstained", "{:.0f} tokens", "Not routed to any novel."),
        _rates(
            outcome,
            "Prompts with the right sinks, by the threshold",
            "right_above",
            "above {:g}",
            f"Prompts of {LENGTHS[2]} tokens.",
        ),
    ]


def _kept(outcome: Outcome) -> Table:
    rows = [
        [label, *(cell(outcome.get(ARM, f"{group}/{part}/kept", ROUTED), 2) for part in ("train", "held_out"))]
        for group, label in ({book: novel.title for book, novel in NOVELS.items()} | {"all": "mean"}).items()
        if outcome.get(ARM, f"{group}/train", ROUTED) is not None
    ]
    note = "(off - routed) / (off - oracle) of the losses above; no figure where the right sinks may gain nothing."
    return Table("Share of the right sinks' gain that routing keeps", ["", *list(SETS.values())[:2]], rows, note)


def _rates(outcome: Outcome, title: str, kind: str, column: str, note: str) -> Table:
    places = [x for x, _ in outcome.sweep(ARM, f"{GENERAL}/{kind}", ROUTED)]
    rows = [
        [label, *(cell(outcome.get(ARM, f"{measure}/{kind}", mode, x), 0, 100, " %") for x in places)]
        for label, measure, mode in RATES
    ]
    return Table(title, ["", *map(column.format, places)], rows, note)


def figures(outcome: Outcome) -> dict[str, list[Panel]]:
    """Losses by mode, and the share of prompts with the right sinks by the length of the prompt."""
    losses = []
    for place, (measure, label) in enumerate(SETS.items()):
        found = [(i, s) for i, mode in enumerate(MODES) if (s := outcome.get(ARM, measure, mode))]
        losses.append(
            Series(
                label=label,
                x=[i + 0.12 * (place - 1) for i, _ in found],
                y=[s.mean for _, s in found],
                low=[s.low for _, s in found],
                high=[s.high for _, s in found],
                joined=False,
            )
        )
    rates, thresholds = (
        [Series(label=label, **points(outcome, ARM, f"{measure}/{kind}", mode)) for label, measure, mode in RATES]
        for kind in ("right", "right_above")
    )
    return {
        "routing": [
            Panel(
                title="What follows the prompt",
                x_label="",
                y_label="nats per token",
                series=losses,
                ticks=list(MODES),
            ),
            Panel(
                title="Prompts with the right sinks",
                x_label="tokens of the prompt",
                y_label="share",
                series=rates,
                logarithmic=True,
            ),
            Panel(
                title=f"Prompts of {LENGTHS[2]} tokens with the right sinks",
                x_label="threshold",
                y_label="share",
                series=thresholds,
            ),
        ]
    }
