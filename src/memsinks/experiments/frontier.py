"""The frontier of all methods: skill kept, text forgotten, memory held.

Methods that forget after training stand at their operating points. These were chosen on one half of the held-out
stories; their place on the picture is the validation loss of standard training, and what they add to it on the other.
"""

from collections.abc import Sequence

from memsinks.audit import validation_cost
from memsinks.experiments import relearning
from memsinks.experiments.catalogue import Experiment, Figure, Outcome, Table, cell
from memsinks.experiments.lab import Arm
from memsinks.experiments.posthoc import LABELS, LOCALISERS, method_rows
from memsinks.experiments.posthoc_bench import Bench
from memsinks.experiments.results import Row, Summary
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import (
    DEDUPLICATED_STEPS,
    MASKING_ALL,
    MASKING_MLP,
    PAPER_RATE,
    PAPER_REPEATED,
    SINKS,
    SINKS_PAPER,
    STANDARD,
    UNSEEN_STEPS,
    budget,
    capped,
    early,
    first,
    goldfish,
    paper_repeated,
    pool,
    rate,
)
from memsinks.experiments.ts_repetition import measure_arms
from memsinks.report.plots import Panel, Series

CAPPED = tuple(capped(times) for times in (2, 4, 8, 16, 32))

FAMILIES: dict[str, tuple[Arm, ...]] = {
    "Capped repetition": CAPPED,
    "Goldfish loss": tuple(goldfish(k) for k in (2, 3, 4)),
    "Gradient masking": (MASKING_MLP, MASKING_ALL),
    "Sinks, paper's split": (SINKS_PAPER, PAPER_RATE, PAPER_REPEATED, paper_repeated(2), paper_repeated(5)),
    "Sinks, learning rate": (rate(1), rate(2), rate(3), SINKS, rate(10)),
    "Sinks, early layers": tuple(early(times) for times in (2, 3, 5, 10)),
    "Sinks, exposure budget": tuple(budget(r) for r in (0, 1, 4, 8, 16)),
    "Repeated stories first": (
        first(0.5, STANDARD, "Standard training, repeated stories in the"),
        *(first(until, SINKS, "Sinks, repeated stories in the") for until in (0.5, 0.7)),
        *(first(0.5, rate(times), f"Sinks, learning rate x{times}, repeated stories in the") for times in (1, 2)),
    ),
    "Sinks, pool": (
        pool(512, 64),
        pool(2048, 1024, 3),
        pool(8192, 100, 1),
        pool(8192, 100, 2),
        pool(8192, 100),
        goldfish(4, SINKS.settings),
    ),
}
"""Every method of training and its settings, by family."""
POSTHOC: dict[str, tuple[Arm, ...]] = {
    "Localisation after training": tuple(Arm(name=name, label=LABELS[name]) for name in LOCALISERS),
    "Unlearning after training": tuple(Arm(name=n, label=label) for n, label in LABELS.items() if n not in LOCALISERS),
}
"""Methods applied to the standard arm; nothing is trained under these names."""
SHOWN = 0.1
"""The picture ends at this share of validation loss above standard training; the table has what lies beyond."""


def frontier_points(outcome: Outcome, arms: Sequence[Arm]) -> list[tuple[Arm, Summary, Summary]]:
    """Validation and repeated loss of the arms as they are served: plain, or sinks off."""
    found = []
    for arm in arms:
        mode = "off" if arm.modes else "plain"
        V, R = outcome.get(arm.name, "validation", mode), outcome.get(arm.name, "repeated", mode)
        if V is not None and R is not None:
            found.append((arm, V, R))
    return found


def better_cap(outcome: Outcome, arm: Arm) -> Arm | None:
    """The cap (or deduplication) that keeps more skill and leaves less of the text; of several, the one leaving least.

    None means that no cap is better on both axes.
    """
    own = frontier_points(outcome, (arm,))
    better = [
        (R.mean, cap)
        for cap, V, R in frontier_points(outcome, (*CAPPED, DEDUPLICATED_STEPS))
        if own and V.mean < own[0][1].mean and R.mean > own[0][2].mean
    ]
    return max(better, key=lambda found: found[0])[1] if better else None


def _frontier_tables(outcome: Outcome) -> list[Table]:
    body = []
    references = {"References": (STANDARD, DEDUPLICATED_STEPS, UNSEEN_STEPS)}
    for arm, V, R in frontier_points(outcome, [a for arms in (references | FAMILIES | POSTHOC).values() for a in arms]):
        mode = "off" if arm.modes else "plain"
        cap = better_cap(outcome, arm)
        body.append(
            [
                arm.label,
                cell(V),
                cell(outcome.get(arm.name, "validation_cost", mode), 1, 100, " %"),
                cell(R),
                cell(outcome.get(arm.name, "relearned", mode)),
                cell(outcome.over(UNSEEN_STEPS.name, arm.name, "relearned", mode)),
                cell(outcome.get(arm.name, "repeated", "own")),
                cell(outcome.get(arm.name, "forgetting_steps", mode)),
                cell(outcome.get(arm.name, "removable_memory", mode)),
                cell(outcome.get(arm.name, "extraction", mode), 0, 100, " %"),
                "–" if cap is None else cap.label,
            ]
        )
    header = [
        "", "V off", "over standard", "R off", "relearned", "relearned, of never seen", "R own",
        "forgetting, equal steps", "removable memory", "extracted, off", "a cap better on both",
    ]  # fmt: skip
    note = (
        "Losses in nats per token with sinks off, all at equal optimiser steps; methods after training at their "
        f"operating points, see post-hoc. Relearned: every second story after {relearning.STEPS} steps on the others; "
        "of never seen: over the same of a model that never saw them. "
        "The last column names a cap with a lower V and a higher R, if there is one. "
        f"The picture ends {SHOWN:.0%} above the V of standard training, and at its points: intervals may be longer."
    )
    return [Table("The frontier", header, body, note)]


def _frontier_figures(outcome: Outcome) -> dict[str, list[Panel]]:
    """Both axes compare arms of one seed, whose stories are the same."""

    def of_never_seen(measure: str) -> Figure:
        return lambda arm, mode: outcome.over(UNSEEN_STEPS.name, arm, measure, mode)

    def removable(arm: str, mode: str) -> Summary | None:
        """What has nothing to switch off has nothing to remove."""
        return outcome.get(arm, "removable_memory", mode) if mode == "off" else Summary(len(outcome.seeds), 0, 0, 0)

    never = {"never seen": 1.0}
    return {
        "frontier": [
            _panel(
                outcome, "What is left of repeated stories", "loss, of never seen", of_never_seen("repeated"), never
            ),
            _panel(
                outcome,
                "What comes back by relearning half",
                "loss of the rest, of never seen",
                of_never_seen("relearned"),
                never,
            ),
            _panel(outcome, "What was there to remove", "removable memory", removable, {}),
        ]
    }


def _panel(outcome: Outcome, title: str, y_label: str, figure: Figure, lines: dict[str, float]) -> Panel:
    """Every family's arms, as they are served, against what they cost."""
    several = len(outcome.seeds) > 1
    shown = []
    for family, arms in ({"Standard, deduplicated": (STANDARD, DEDUPLICATED_STEPS)} | FAMILIES | POSTHOC).items():
        found = []
        for arm in arms:
            mode = "off" if arm.modes else "plain"
            cost, y = outcome.get(arm.name, "validation_cost", mode), figure(arm.name, mode)
            if cost is not None and y is not None and cost.mean <= SHOWN:
                found.append((cost.times(100), y))
        if not found:
            continue
        shown.append(
            Series(
                label=family,
                x=[x.mean for x, _ in found],
                x_low=[x.low for x, _ in found] if several else (),
                x_high=[x.high for x, _ in found] if several else (),
                y=[y.mean for _, y in found],
                low=[y.low for _, y in found] if several else (),
                high=[y.high for _, y in found] if several else (),
                joined=family in ("Capped repetition", "Sinks, exposure budget"),
            )
        )
    x_label = "validation loss over standard training, %"
    return Panel(title=title, x_label=x_label, y_label=y_label, series=shown, lines=lines, fit_points=True)


def _run_frontier(lab: StoryLab) -> list[Row]:
    arms = (DEDUPLICATED_STEPS, *(arm for arms in FAMILIES.values() for arm in arms))
    rows = measure_arms(lab, arms)
    bench = Bench(lab, "repeated")
    rows += [bench.relearned_arm(arm) for arm in {a.name: a for a in (STANDARD, UNSEEN_STEPS, *arms)}.values()]
    standard = lab.measured(STANDARD).losses("validation", "plain").mean
    strict = lab.measured(UNSEEN_STEPS).losses("repeated", "plain").mean
    for method in LABELS:
        found = {row.measure: row for row in method_rows(bench, method) if row.arm == method}
        repeated, rise = found["repeated"], found["degradation"]
        rows += [repeated, rise, found["extraction"], found["relearned"]]
        rows.append(Row(arm=method, measure="validation", value=standard + rise.value))
        cost = validation_cost(found["validation"].value, found["validation"].value - rise.value)
        rows.append(Row(arm=method, measure="validation_cost", value=cost))
        rows.append(Row(arm=method, measure="forgetting_steps", value=repeated.value / strict))
    return rows


FRONTIER = Experiment(
    name="frontier",
    title="Every method and its settings on one picture: skill kept, text forgotten, memory held",
    claim="At equal optimiser steps sinks hold almost all the memory of standard training and, off, lie on or beyond "
    "the frontier of methods that never held it (ours).",
    supports="Which settings lie beyond capped repetition, the cheap alternative, at this size.",
    not_shown="Larger models, other text; each setting is one point of a larger space.",
    settings=STORIES,
    text="stories",
    arms=4 + sum(map(len, FAMILIES.values())),
    run=_run_frontier,
    tables=_frontier_tables,
    figures=_frontier_figures,
)
