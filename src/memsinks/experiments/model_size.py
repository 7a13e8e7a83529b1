"""Ablation over model size: sinks, and post-hoc removal beside them."""

from dataclasses import dataclass, replace
from pathlib import Path

from memsinks.experiments import relearning
from memsinks.experiments.catalogue import Experiment, Outcome, Table, cell, points
from memsinks.experiments.lab import Arm
from memsinks.experiments.posthoc import LABELS, method_rows
from memsinks.experiments.posthoc_bench import Bench
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab, StorySetting
from memsinks.experiments.story_arms import SINKS, SINKS_PAPER, STANDARD, UNSEEN_STEPS
from memsinks.experiments.ts_repetition import measure_arms
from memsinks.report.plots import Panel, Series

FACTORS = (1 / 3, 2 / 3, 1.0, 4 / 3)
"""Hidden sizes, as multiples of the scale's own; the MLP and the pool follow."""
HEADS_SIZE = 16
POSTHOC = ("hard_concrete", "npo")
"""The best localisation and the best unlearning method of the post-hoc experiment at the same scale."""
ARMS = (STANDARD, UNSEEN_STEPS, SINKS_PAPER, SINKS)
RELEARNED = (UNSEEN_STEPS.name, SINKS.name)
"""Arms that are relearned beside the post-hoc methods."""


@dataclass(frozen=True)
class Sizes:
    """A lab for each size of the model, by its hidden size or its number of layers."""

    labs: dict[int, StoryLab]


def _prepare(setting: StorySetting, seed: int, folder: Path, *, progress: bool) -> Sizes:
    labs = {}
    for factor in FACTORS:
        multiple = HEADS_SIZE * setting.heads // 4
        hidden = max(multiple, round(setting.hidden * factor / multiple) * multiple)
        width = round(setting.width * hidden / setting.hidden)
        sized = replace(setting, hidden=hidden, width=width)
        labs[hidden] = StoryLab(sized, seed, folder / f"hidden-{hidden}", progress=progress)
    return Sizes(labs)


def _run(sizes: Sizes) -> list[Row]:
    rows = []
    for hidden, lab in sizes.labs.items():
        arms = [_sized(arm, lab) for arm in ARMS]
        rows += [replace(row, x=float(hidden)) for row in measure_arms(lab, arms) if row.x is None]
        bench = Bench(lab, "repeated")
        rows += [replace(bench.relearned_arm(arm), x=float(hidden)) for arm in arms if arm.name in RELEARNED]
        for method in POSTHOC:
            rows += [replace(row, x=float(hidden)) for row in method_rows(bench, method) if row.arm == method]
    return rows


def _sized(arm: Arm, lab: StoryLab) -> Arm:
    """The sparse pool in proportion to the MLP: four times its width, an eighth of it active."""
    if arm is not SINKS:
        return arm
    active = max(1, lab.setting.width // 2)
    return replace(arm, settings=dict(arm.settings) | {"sinks.pool": 8 * active, "sinks.active": active})


_LINES = (
    ("Sinks, all layers, x5: off", SINKS.name, "off"),
    ("Sinks, paper's setting: off", SINKS_PAPER.name, "off"),
    *((LABELS[name], name, "plain") for name in POSTHOC),
)


def _tables(outcome: Outcome) -> list[Table]:
    body = []
    references = ((arm.label, arm.name, "plain") for arm in (STANDARD, UNSEEN_STEPS))
    for label, arm, mode in (*references, *_LINES):
        for hidden, loss in outcome.sweep(arm, "validation", mode):
            measured = {
                measure: outcome.get(arm, measure, mode, hidden) for measure in ("repeated", "forgetting", "relearned")
            }
            body.append(
                [
                    f"{label}, hidden {hidden:g}",
                    cell(measured["repeated"]),
                    cell(loss),
                    f"{_over_standard(outcome, arm, mode, hidden):.3f}",
                    cell(measured["forgetting"]),
                    cell(measured["relearned"]),
                ]
            )
    note = (
        "Nats per token. Post-hoc methods at their operating point, on one half of the held-out stories; over standard "
        f"is on the same stories. Relearned: every second story after {relearning.STEPS} steps on the others."
    )
    header = ["", "repeated", "validation", "over standard", "forgetting", "relearned"]
    return [Table("Model size", header, body, note)]


def _over_standard(outcome: Outcome, arm: str, mode: str, hidden: float) -> float:
    """Validation loss above that of standard training on the same stories."""
    if arm in POSTHOC:
        return outcome.summary[arm, "degradation", mode, hidden].mean
    standard = outcome.summary[STANDARD.name, "validation", "plain", hidden].mean
    return outcome.summary[arm, "validation", mode, hidden].mean - standard


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    panels = []
    for measure, title in (
        ("forgetting", "Forgetting"),
        ("validation", "Validation loss"),
        ("relearned", "What comes back by relearning half"),
    ):
        series = [Series(label=label, **points(outcome, arm, measure, mode)) for label, arm, mode in _LINES]
        reference = {"validation": STANDARD, "relearned": UNSEEN_STEPS}.get(measure)
        if reference is not None:
            series.append(Series(label=reference.label, **points(outcome, reference.name, measure)))
        label = "share" if measure == "forgetting" else "nats per token"
        panels.append(Panel(title=title, x_label="hidden size", y_label=label, series=[s for s in series if s.x]))
    return {"sizes": panels}


MODEL_SIZE = Experiment(
    name="model-size",
    title="Four sizes of the model: sinks, with the best post-hoc methods beside them",
    claim="Sinks forget more with size while post-hoc methods do not (section 6).",
    supports="The trend over a range of about sixteen in MLP weights.",
    not_shown="Sizes beyond a few million parameters.",
    settings=STORIES,
    text="model-size",
    arms=len(FACTORS) * (len(ARMS) + 1),
    run=_run,
    tables=_tables,
    figures=_figures,
    prepare=_prepare,
)
