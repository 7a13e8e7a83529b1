"""Ablation over the model's depth: sinks in all layers, and in the early half of them."""

from dataclasses import replace
from pathlib import Path

from memsinks.experiments.catalogue import Experiment, Outcome, Table, cell, coordinates, points
from memsinks.experiments.model_size import Sizes
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab, StorySetting
from memsinks.experiments.story_arms import SINKS, STANDARD, UNSEEN_STEPS, early
from memsinks.experiments.ts_repetition import measure_arms
from memsinks.report.plots import Panel, Series

FACTORS = (0.5, 1, 2)
"""Numbers of layers, as multiples of the scale's own; all else stays."""
ARMS = (SINKS, early(10))


def _prepare(setting: StorySetting, seed: int, folder: Path, *, progress: bool) -> Sizes:
    depths = {max(1, round(setting.layers * factor)) for factor in FACTORS}
    return Sizes(
        {
            layers: StoryLab(replace(setting, layers=layers), seed, folder / f"layers-{layers}", progress=progress)
            for layers in sorted(depths)
        }
    )


def _run(sizes: Sizes) -> list[Row]:
    return [
        replace(row, x=float(layers))
        for layers, lab in sizes.labs.items()
        for row in measure_arms(lab, ARMS)
        if row.x is None
    ]


def _tables(outcome: Outcome) -> list[Table]:
    body = []
    for label, arm, mode in (
        *((arm.label, arm.name, "plain") for arm in (STANDARD, UNSEEN_STEPS)),
        *((f"{arm.label}: {mode}", arm.name, mode) for arm in ARMS for mode in ("own", "off")),
    ):
        for layers, repeated in outcome.sweep(arm, "repeated", mode):
            found = {
                measure: outcome.get(arm, measure, mode, layers)
                for measure in ("validation", "validation_cost", "extraction", "forgetting_steps")
            }
            body.append(
                [
                    f"{label}, {layers:g} {'layer' if layers == 1 else 'layers'}",
                    cell(repeated),
                    cell(found["validation"]),
                    cell(found["validation_cost"], 1, 100, " %"),
                    cell(found["extraction"], 0, 100, " %"),
                    cell(found["forgetting_steps"]),
                ]
            )
    header = ["", "R", "V", "V over standard", "extracted", "forgetting, equal steps"]
    return [
        Table("Depth of the model", header, body, "Losses in nats per token; shares are of arms of the same depth.")
    ]


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    forgotten = [Series(label=arm.label, **points(outcome, arm.name, "forgetting_steps", "off")) for arm in ARMS]
    costs = [
        Series(
            label=arm.label,
            **coordinates([(x, s.times(100)) for x, s in outcome.sweep(arm.name, "validation_cost", "off")]),
        )
        for arm in ARMS
    ]
    return {
        "depths": [
            Panel(
                title="Repeated stories, sinks off",
                x_label="layers",
                y_label="loss, of never seen",
                series=[s for s in forgotten if s.x],
            ),
            Panel(
                title="Held-out stories, sinks off",
                x_label="layers",
                y_label="loss over standard training, %",
                series=[s for s in costs if s.x],
                lines={"standard training": 0.0},
            ),
        ]
    }


MODEL_DEPTH = Experiment(
    name="model-depth",
    title="Models of half, the same and twice the depth: sinks in all layers or in early ones",
    claim="Sinks in the early half of the layers alone, at ten times the learning rate, forget as much as sinks in all "
    "layers at five times and keep more skill, at any depth (ours).",
    supports="Whether the early half is a share of the depth, at these depths.",
    not_shown="Deeper models; which of the early layers would do; other rates at these depths.",
    settings=STORIES,
    text="model-depth",
    arms=len(FACTORS) * (3 + len(ARMS)),
    run=_run,
    tables=_tables,
    figures=_figures,
    prepare=_prepare,
)
