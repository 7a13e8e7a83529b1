"""Experiments that are lists of arms: the frontier of all methods, and ablations along one setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memsinks.experiments.catalogue import Experiment, Outcome, Table, arms_table, cell
from memsinks.experiments.lab import Arm, Lab
from memsinks.experiments.results import Row, Summary
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.story_arms import (
    DEDUPLICATED_STEPS,
    MASKING_ALL,
    MASKING_MLP,
    PAPER,
    SINK_MODES,
    SINKS,
    SINKS_PAPER,
    STANDARD,
    UNSEEN_STEPS,
    capped,
    with_sinks,
)
from memsinks.experiments.ts_repetition import measure_arms
from memsinks.report.plots import Panel, Series

CAPPED = tuple(capped(times) for times in (2, 4, 8, 16, 32))


def goldfish(one_in: int, base: Mapping[str, Any] | None = None) -> Arm:
    """The goldfish loss on all text, without sinks or with those of ``base``."""
    settings = {**(base or {}), "exposures.goldfish": one_in}
    if base is None:
        return Arm(name=f"goldfish_{one_in}", label=f"Goldfish, 1 in {one_in} left out", settings=settings)
    label = f"Sinks and goldfish, 1 in {one_in} left out"
    return Arm(name=f"sinks_goldfish_{one_in}", label=label, settings=settings, modes=SINK_MODES)


def budget(times: int) -> Arm:
    """Shared weights learn from each repeated story so often, then only its sinks do."""
    label = f"Sinks, shared weights learn {times} times" if times else "Sinks as adapters: shared weights never learn"
    return with_sinks(f"sinks_budget_{times}", label, exposures__shared_budget=times)


def rate(times: float) -> Arm:
    """Another learning rate of sinks."""
    return with_sinks(f"sinks_rate_{times:g}", f"Sinks, learning rate x{times:g}", optimizer__sink_lr_multiplier=times)


def pool(rows: int, active: int) -> Arm:
    """Another pool."""
    name, label = f"sinks_pool_{rows}_{active}", f"Sinks, pool {rows}, {active} active"
    return with_sinks(name, label, sinks__pool=rows, sinks__active=active)


PAPER_REPEATED = Arm(
    name="sinks_paper_repeated",
    label="Sinks, paper's split, for repeated stories only",
    settings=PAPER | {"exposures.govern": "repeated"},
    modes=SINK_MODES,
)
PAPER_RATE = Arm(
    name="sinks_paper_rate_5",
    label="Sinks, paper's setting, learning rate x5",
    settings=PAPER | {"optimizer.sink_lr_multiplier": 5.0},
    modes=SINK_MODES,
)

FRONTIER: dict[str, tuple[Arm, ...]] = {
    "Capped repetition": CAPPED,
    "Goldfish loss": tuple(goldfish(k) for k in (2, 3, 4)),
    "Gradient masking": (MASKING_MLP, MASKING_ALL),
    "Sinks, paper's split": (SINKS_PAPER, PAPER_RATE, PAPER_REPEATED),
    "Sinks, learning rate": (rate(1), rate(2), SINKS, rate(10)),
    "Sinks, exposure budget": tuple(budget(r) for r in (0, 1, 4, 8, 16)),
    "Sinks, pool": (pool(512, 64), pool(8192, 100), goldfish(4, SINKS.settings)),
}
"""Every method and its settings, by family."""


def frontier_points(outcome: Outcome, arms: Sequence[Arm]) -> list[tuple[Arm, Summary, Summary]]:
    """Validation and repeated loss of the arms as they are served: plain, or sinks off."""
    found = []
    for arm in arms:
        mode = "off" if arm.modes else "plain"
        V, R = outcome.get(arm.name, "validation", mode), outcome.get(arm.name, "repeated", mode)
        if V is not None and R is not None:
            found.append((arm, V, R))
    return found


def beyond_capped(outcome: Outcome, arm: Arm) -> float | None:
    """Repeated loss above that of capped repetition at the same validation loss, interpolated; None off its range.

    Positive means less is left of the text than a cap that costs as much leaves.
    """
    line = sorted((V.mean, R.mean) for _, V, R in frontier_points(outcome, (STANDARD, *CAPPED, DEDUPLICATED_STEPS)))
    own = frontier_points(outcome, (arm,))
    if not own or len(line) < 2 or not line[0][0] <= own[0][1].mean <= line[-1][0]:
        return None
    return own[0][2].mean - float(np.interp(own[0][1].mean, [v for v, _ in line], [r for _, r in line]))


def _frontier_tables(outcome: Outcome) -> list[Table]:
    body = []
    references = {"References": (STANDARD, DEDUPLICATED_STEPS, UNSEEN_STEPS)}
    for arm, V, R in frontier_points(outcome, [a for arms in (references | FRONTIER).values() for a in arms]):
        mode = "off" if arm.modes else "plain"
        gain = beyond_capped(outcome, arm)
        body.append(
            [
                arm.label,
                cell(V),
                cell(R),
                cell(outcome.get(arm.name, "repeated", "own")),
                cell(outcome.get(arm.name, "forgetting_steps", mode)),
                cell(outcome.get(arm.name, "removable_memory", mode)),
                cell(outcome.get(arm.name, "extraction", mode), 0, 100, " %"),
                "–" if gain is None else f"{gain:+.3f}",
            ]
        )
    header = [
        "", "V off", "R off", "R own", "forgetting, equal steps", "removable memory", "extracted, off",
        "R over capped at the same V",
    ]  # fmt: skip
    note = (
        "Losses in nats per token with sinks off, all at equal optimiser steps. The last column is empty where no cap "
        "has this validation loss."
    )
    return [Table("The frontier", header, body, note)]


def _frontier_figures(outcome: Outcome) -> dict[str, list[Panel]]:
    forgotten, held = [], []
    families = {"Standard, deduplicated": (STANDARD, DEDUPLICATED_STEPS)} | FRONTIER
    for family, arms in families.items():
        found = frontier_points(outcome, arms)
        if not found:
            continue
        x: dict[str, Any] = {
            "x": [V.mean for _, V, _ in found],
            "x_low": [V.low for _, V, _ in found] if _several(outcome) else (),
            "x_high": [V.high for _, V, _ in found] if _several(outcome) else (),
        }
        bounds: dict[str, Any] = {}
        if _several(outcome):
            bounds = {"low": [R.low for *_, R in found], "high": [R.high for *_, R in found]}
        joined = family in ("Capped repetition", "Sinks, exposure budget")
        forgotten.append(Series(label=family, y=[R.mean for *_, R in found], joined=joined, **x, **bounds))
        memory = [outcome.get(arm.name, "removable_memory", "off") for arm, *_ in found]
        held.append(Series(label=family, y=[0.0 if m is None else m.mean for m in memory], joined=joined, **x))
    unseen = outcome.get(UNSEEN_STEPS.name, "repeated")
    return {
        "frontier": [
            Panel(
                title="What is left of repeated stories",
                x_label="validation loss, sinks off (nats per token)",
                y_label="loss of repeated stories, sinks off",
                series=forgotten,
                lines={} if unseen is None else {"never seen": unseen.mean},
            ),
            Panel(
                title="What was there to remove",
                x_label="validation loss, sinks off (nats per token)",
                y_label="removable memory",
                series=held,
            ),
        ]
    }


def _several(outcome: Outcome) -> bool:
    return len(outcome.seeds) > 1


def _run_frontier(lab: Lab) -> list[Row]:
    return measure_arms(lab, (DEDUPLICATED_STEPS, *(arm for arms in FRONTIER.values() for arm in arms)))


FRONTIER_EXPERIMENT = Experiment(
    name="frontier",
    title="Every method and its settings on one picture: skill kept, text forgotten, memory held",
    claim="At equal optimiser steps sinks hold almost all the memory of standard training and, off, lie on or beyond "
    "the frontier of methods that never held it (ours).",
    supports="Which settings lie beyond capped repetition, the cheap alternative, at this size.",
    not_shown="Post-hoc methods (see post-hoc); larger models; each setting is one point of a larger space.",
    settings=STORIES,
    text="stories",
    arms=4 + sum(map(len, FRONTIER.values())),
    run=_run_frontier,
    tables=_frontier_tables,
    figures=_frontier_figures,
)


@dataclass(frozen=True)
class Ablation:
    """Arms along one setting.

    Attributes:
        lines: label -> (value, arm) pairs.
        x_label: the setting.
        logarithmic: a logarithmic axis.
        axes: show the measures that compare with standard training, where its exposures are those of the arms.
    """

    lines: Mapping[str, Sequence[tuple[float, Arm]]]
    x_label: str
    logarithmic: bool = False
    axes: bool = True

    @property
    def arms(self) -> list[Arm]:
        """All arms, each once."""
        return list({arm.name: arm for line in self.lines.values() for _, arm in line}.values())

    def run(self, lab: Lab) -> list[Row]:
        """Measure one seed."""
        return measure_arms(lab, self.arms)

    def tables(self, outcome: Outcome) -> list[Table]:
        """Losses and the three axes of every arm."""
        columns = {"R": "repeated", "V": "validation", "extracted": "extraction"}
        if self.axes:
            columns |= {
                "forgetting, equal steps": "forgetting_steps", "gap closure": "gap_closure",
                "removable memory": "removable_memory",
            }  # fmt: skip
        rows = [(STANDARD.label, STANDARD.name, "plain")]
        for arm in self.arms:
            rows += [(f"{arm.label}: {mode}", arm.name, mode) for mode in (("own", "off") if arm.modes else ("plain",))]
        return [arms_table(outcome, self.x_label, rows, columns)]

    def figures(self, outcome: Outcome) -> dict[str, list[Panel]]:
        """One panel for text held and text forgotten, one for held-out text."""
        panels = []
        for measure, title, modes in (
            ("repeated", "Repeated stories", ("own", "off", "plain")),
            ("validation", "Held-out stories", ("off", "plain")),
        ):
            series = [
                self._series(outcome, label if mode == "plain" else f"{label}, {mode}", line, measure, mode, label)
                for label, line in self.lines.items()
                for mode in modes
            ]
            standard = outcome.get(STANDARD.name, measure)
            panels.append(
                Panel(
                    title=title,
                    x_label=self.x_label,
                    y_label="nats per token",
                    series=[s for s in series if s.x],
                    lines={} if standard is None else {"standard training": standard.mean},
                    logarithmic=self.logarithmic,
                )
            )
        return {"sweep": panels}

    def _series(
        self, outcome: Outcome, label: str, line: Sequence[tuple[float, Arm]], measure: str, mode: str, group: str
    ) -> Series:
        found = [(x, s) for x, arm in line if (s := outcome.get(arm.name, measure, mode)) is not None]
        return Series(
            label=label,
            group=group,
            x=[x for x, _ in found],
            y=[s.mean for _, s in found],
            low=[s.low for _, s in found],
            high=[s.high for _, s in found],
        )


def _ablation(name: str, title: str, claim: str, supports: str, ablation: Ablation) -> Experiment:
    return Experiment(
        name=name,
        title=title,
        claim=claim,
        supports=supports,
        not_shown="Other sizes; how the setting interacts with those held fixed.",
        settings=STORIES,
        text="stories",
        arms=3 + len(ablation.arms),
        run=ablation.run,
        tables=ablation.tables,
        figures=ablation.figures,
    )


def _paper_ratio(ratio: float) -> Arm:
    return Arm(
        name=f"paper_ratio_{ratio:g}",
        label=f"Paper's split, ratio {ratio:g}",
        settings=PAPER | {"sinks.active": ratio},
        modes=SINK_MODES,
    )


def _paper_shared(shared: float) -> Arm:
    return Arm(
        name=f"paper_shared_{shared:g}",
        label=f"Paper's ratio, {shared:.0%} shared",
        settings=PAPER | {"sinks.shared": shared},
        modes=SINK_MODES,
    )


def _noise(share: float, kind: str) -> Arm:
    if not share:
        return SINKS
    label = f"Sinks, {share:.0%} wrong IDs, {kind}"
    return with_sinks(f"noise_{kind}_{share:g}", label, exposures__id_noise=share, exposures__id_noise_kind=kind)


def _exposed(base: Arm, times: int) -> Arm:
    """The arm with so many exposures, once through its plan."""
    return replace(
        base, name=f"{base.name}_seen_{times}", label=f"{base.label}, {times} exposures", exposures=times,
        equal_steps=False,
    )  # fmt: skip


EXPOSURES = (2, 4, 16, 64, 256)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
NOISE = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)

ABLATIONS = (
    _ablation(
        "activation-ratio",
        "How much of the pool one sequence switches on",
        "Forgetting is best at a middling ratio (section 6).",
        "How far the ratio matters, under the paper's policy and under ours.",
        Ablation(
            {
                "Paper's split": [(r, _paper_ratio(r)) for r in RATIOS],
                "Recommended": [(r, pool(2048, round(2048 * r))) for r in RATIOS],
            },
            "activation ratio",
            logarithmic=True,
        ),
    ),
    _ablation(
        "pool-share",
        "How much of the MLP is shared",
        "A larger pool forgets more and leaves less for skill.",
        "The trade of shared width against pool at a fixed width.",
        Ablation(
            {"Paper's ratio": [(s, _paper_shared(s)) for s in (0.5, 0.6, 0.7, 0.8, 0.9)]}, "shared part of the MLP"
        ),
    ),
    _ablation(
        "id-noise",
        "Exposures under a wrong ID",
        "Sinks tolerate 10 % of wrong IDs and fail at 50 % (section 6).",
        "How robust forgetting is to wrong IDs, new ones each time or always the same.",
        Ablation(
            {kind: [(s, _noise(s, kind)) for s in NOISE] for kind in ("fresh", "consistent")}, "share of wrong IDs"
        ),
    ),
    _ablation(
        "sink-rate",
        "How much faster sinks learn than shared weights",
        "Sinks that fit the residue first spare shared weights (ours).",
        "Whether a higher rate moves memory into sinks, and from where it harms.",
        Ablation(
            {"Recommended": [(t, SINKS if t == 5 else rate(t)) for t in (0.5, 1, 2, 5, 10, 20)]},
            "learning rate of sinks over that of shared weights",
            logarithmic=True,
        ),
    ),
    _ablation(
        "exposure-budget",
        "Shared weights stop learning from a story after so many exposures",
        "A budget closes the gap and costs some of the benefit of repetition (ours).",
        "What budgets cost and bring; 0 is an adapter for each story beside a base that never saw it.",
        Ablation(
            {"Recommended": [(r, budget(r)) for r in (0, 1, 2, 4, 8, 16, 32)]}, "exposures that shared weights see"
        ),
    ),
    _ablation(
        "exposures",
        "How often the repeated stories are seen",
        "Memory, and with it what sinks take away, grows with exposures.",
        "From how many exposures on a story is memorised, and what sinks then hold.",
        Ablation(
            {
                "Standard": [(n, _exposed(STANDARD, n)) for n in EXPOSURES],
                "Recommended": [(n, _exposed(SINKS, n)) for n in EXPOSURES],
            },
            "exposures",
            logarithmic=True,
            axes=False,
        ),
    ),
)
