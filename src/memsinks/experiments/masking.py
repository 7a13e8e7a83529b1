"""Experiment 4, forced localisation: gradient masking, its price before removal, and co-adaptation."""

from memsinks.experiments.catalogue import Experiment, Outcome, Table, arms_table, cell
from memsinks.experiments.results import Row, paired_difference
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import MASKING_ALL, MASKING_MLP, SINKS, STANDARD
from memsinks.experiments.ts_repetition import COLUMNS, curve_panel, measure_arms
from memsinks.report.plots import Panel

MASKED = (MASKING_MLP, MASKING_ALL)


def _run(lab: StoryLab) -> list[Row]:
    return measure_arms(lab, (*MASKED, SINKS))


def _tables(outcome: Outcome) -> list[Table]:
    rows = [(STANDARD.label, STANDARD.name, "plain")]
    for arm in MASKED:
        rows += [(f"{arm.label}: before removal", arm.name, "own"), (f"{arm.label}: after", arm.name, "off")]
    rows.append((f"{SINKS.label}: off", SINKS.name, "off"))
    note = "Before removal the block is on for every text under gradient masking."
    differences = []
    for arm in (arm for arm in MASKED if outcome.get(arm.name, "validation", "own")):
        harm = paired_difference(
            outcome.seeds.values(), (arm.name, "validation", "own", None), (STANDARD.name, "validation", "plain", None)
        )
        cost = paired_difference(
            outcome.seeds.values(), (arm.name, "validation", "off", None), (arm.name, "validation", "own", None)
        )
        differences.append([arm.label, cell(harm), cell(cost)])
    return [
        arms_table(outcome, "Forced localisation", rows, COLUMNS, note),
        Table(
            "What gradient masking costs (nats per token, paired over seeds)",
            ["", "validation before removal, over standard", "validation after removal, over before"],
            differences,
        ),
    ]


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    panels = [
        curve_panel(
            outcome,
            f"{arm.label}: validation",
            [
                ("standard training", STANDARD.name, "validation", "plain"),
                ("before removal", arm.name, "validation", "own"),
                ("after removal", arm.name, "validation", "off"),
            ],
        )
        for arm in MASKED
    ]
    return {"coadaptation": panels}


MASKING = Experiment(
    name="gradient-masking",
    title="Repeated stories train only a block of neurons, other stories only the rest",
    claim="Forcing memory into a block harms validation loss before removal, and shared neurons come to rely on the "
    "block: removal costs more and more as training goes on (section 4).",
    supports="Whether masked gradients harm, and whether removal costs more with training, at this size.",
    not_shown="Other ways to mask: by token, by a learned route, or with the block off for other text.",
    settings=STORIES,
    text="stories",
    arms=len(MASKED) + 4,
    run=_run,
    tables=_tables,
    figures=_figures,
)
