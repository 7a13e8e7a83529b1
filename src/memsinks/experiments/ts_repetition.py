"""Experiment 1, TS-Repetition, and experiment 5, sinks in all their modes, on the same arms."""

from collections.abc import Sequence

from memsinks.experiments.catalogue import Experiment, Outcome, Table, arms_table, coordinates
from memsinks.experiments.lab import Arm
from memsinks.experiments.memory import arm_rows, curve_rows, memory_rows
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import CANARIES, STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import (
    REFERENCES,
    SINKS,
    SINKS_PAPER,
    STANDARD,
    UNSEEN,
    UNSEEN_STEPS,
    early,
)
from memsinks.report.plots import Panel, Series

WITH_SINKS = (SINKS_PAPER, SINKS, early(10))
SHOWN = "own", "off", "placebo", "all"
COLUMNS = {
    "repeated": "repeated",
    "validation": "validation",
    "validation, over standard": "validation_cost",
    "extracted": "extraction",
    "forgetting": "forgetting",
    "gap closure": "gap_closure",
    "removable memory": "removable_memory",
}


def measure_arms(lab: StoryLab, arms: Sequence[Arm], documents: str = "repeated") -> list[Row]:
    """Train the arms and their references; rows of losses, extraction, curves and the three axes.

    Forgetting has two references: a model that never saw the repeated stories, trained once through the rest (as in
    the paper), and one trained for as many steps as all others (``forgetting_steps``), which is the stricter.
    """
    measured = {arm.name: lab.measured(arm) for arm in (STANDARD, UNSEEN, UNSEEN_STEPS, *arms)}
    sets = list(measured[STANDARD.name].data["losses"])
    standard = {name: measured[STANDARD.name].losses(name, "plain") for name in sets}
    unseen, unseen_steps = (measured[arm.name].losses(documents, "plain") for arm in (UNSEEN, UNSEEN_STEPS))
    rows: list[Row] = []
    for arm in {a.name: a for a in (STANDARD, UNSEEN, UNSEEN_STEPS, *arms)}.values():
        found = measured[arm.name]
        rows += [*arm_rows(arm.name, found), *curve_rows(arm.name, found)]
        for mode in [m for m in (arm.modes or ("plain",)) if m in ("plain", "off")]:
            off = {name: found.losses(name, mode) for name in sets}
            own = found.losses(documents, "own") if "own" in arm.modes else None
            rows += memory_rows(arm.name, off, own, standard, unseen, mode, documents=documents)
            strict = memory_rows(arm.name, off, None, standard, unseen_steps, mode, documents=documents)
            rows += [
                Row(arm=r.arm, measure="forgetting_steps", mode=mode, value=r.value, low=r.low, high=r.high)
                for r in strict
                if r.measure == "forgetting"
            ]
    return rows


def _run(lab: StoryLab) -> list[Row]:
    return measure_arms(lab, (*REFERENCES, *WITH_SINKS))


def _run_canaries(lab: StoryLab) -> list[Row]:
    return measure_arms(lab, (*REFERENCES, *WITH_SINKS), documents="canary")


def _table_rows() -> list[tuple[str, str, str]]:
    rows = [(arm.label, arm.name, "plain") for arm in REFERENCES]
    return rows + [(f"{arm.label}: {mode}", arm.name, mode) for arm in WITH_SINKS for mode in SHOWN]


def _tables(outcome: Outcome) -> list[Table]:
    note = (
        "Losses in nats per token. A held-out story under `own` switches on the sinks of its own ID, which no text "
        "trained. Over standard: above the validation loss of standard training, on the same stories. Forgetting: loss "
        "over that of a model that never saw the stories, once through the rest; in the stricter column, trained for "
        "as many steps."
    )
    columns = COLUMNS | {"forgetting, equal steps": "forgetting_steps"}
    return [arms_table(outcome, "TS-Repetition", _table_rows(), columns, note)]


def _canary_tables(outcome: Outcome) -> list[Table]:
    # Gap closure compares with held-out text, which is no canary.
    columns = {name: name for name in ("story", "canary", "validation")} | {
        title: COLUMNS[title] for title in ("validation, over standard", "extracted", "forgetting", "removable memory")
    }
    note = (
        "Losses in nats per token, of the natural story and of the canary behind it. Extraction, "
        "given the whole story, forgetting and removable memory are of canaries. Even chances for every token would "
        "cost the logarithm of the vocabulary; a model that never saw a canary expects a sentence there and loses more."
    )
    return [arms_table(outcome, "TS-Canary", _table_rows(), columns, note)]


def curve_panel(outcome: Outcome, title: str, lines: Sequence[tuple[str, str, str, str]]) -> Panel:
    """Losses against steps; ``lines`` are (label, arm, measure, mode), one colour an arm and set of documents."""
    series = [
        Series(label=label, group=f"{arm} {measure}", **coordinates(outcome.curve(arm, f"{measure}_curve", mode)))
        for label, arm, measure, mode in lines
    ]
    return Panel(title=title, x_label="optimiser step", y_label="nats per token", series=[s for s in series if s.x])


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    standard = curve_panel(
        outcome,
        "Standard training",
        [("repeated", "standard", "repeated", "plain"), ("validation", "standard", "validation", "plain")],
    )
    by_mode = [
        curve_panel(
            outcome,
            arm.label,
            [
                ("repeated, sinks own", arm.name, "repeated", "own"),
                ("repeated, sinks off", arm.name, "repeated", "off"),
                ("validation, sinks off", arm.name, "validation", "off"),
            ],
        )
        for arm in WITH_SINKS
    ]
    return {"curves": [standard, *by_mode]}


TS_REPETITION = Experiment(
    name="ts-repetition",
    title="Natural stories repeated among stories seen once, and what sinks change",
    claim="Standard training memorises repeated stories; with sinks they are held by neurons that can be dropped, at a "
    "validation loss like that of training with repetition (arXiv 2507.09937, section 5).",
    supports="That the memory of these stories leaves with the sinks, and at what cost, at this size.",
    not_shown="Larger models, other text, attacks beyond greedy extraction.",
    settings=STORIES,
    text="stories",
    arms=len(REFERENCES) + len(WITH_SINKS),
    run=_run,
    tables=_tables,
    figures=_figures,
)
TS_CANARY = Experiment(
    name="ts-canary",
    title="Random-token canaries behind repeated stories: the same arms",
    claim="Canaries, unlike natural stories, are held apart from general skill even by standard training (section 3).",
    supports="How far results on canaries carry over to natural text, at this size.",
    not_shown="Canaries of other kinds and lengths; larger models.",
    settings=CANARIES,
    text="canaries",
    arms=len(REFERENCES) + len(WITH_SINKS),
    run=_run_canaries,
    tables=_canary_tables,
    figures=_figures,
)
