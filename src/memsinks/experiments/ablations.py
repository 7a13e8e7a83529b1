"""Ablations: arms along one setting, all else as in the sparse pool or as published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memsinks.experiments.catalogue import Experiment, Figure, Outcome, Table, arms_table
from memsinks.experiments.lab import Arm
from memsinks.experiments.results import Row, Summary
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import (
    DEDUPLICATED,
    PAPER,
    SINK_MODES,
    SINKS,
    SINKS_PAPER,
    STANDARD,
    UNSEEN_STEPS,
    budget,
    early,
    pool,
    rate,
    with_sinks,
)
from memsinks.experiments.ts_repetition import measure_arms
from memsinks.report.plots import Panel, Series
from memsinks.training.config import OptimizerConfig


@dataclass(frozen=True)
class Ablation:
    """Arms along one setting.

    Attributes:
        lines: label -> (value, arm) pairs.
        x_label: the setting.
        logarithmic: a logarithmic axis.
        ticks: names of the values, where they are no numbers.
        axes: show the measures that compare with standard training, where its exposures are those of the arms.
    """

    lines: Mapping[str, Sequence[tuple[float, Arm]]]
    x_label: str
    logarithmic: bool = False
    ticks: Sequence[str] = ()
    axes: bool = True

    @property
    def arms(self) -> list[Arm]:
        """All arms, each once."""
        return list({arm.name: arm for line in self.lines.values() for _, arm in line}.values())

    def run(self, lab: StoryLab) -> list[Row]:
        """Measure one seed."""
        return measure_arms(lab, self.arms)

    def tables(self, outcome: Outcome) -> list[Table]:
        """Losses and the three axes of every arm."""
        columns = {"R": "repeated", "V": "validation", "extracted": "extraction"}
        if self.axes:
            columns |= {
                "V over standard": "validation_cost", "forgetting": "forgetting",
                "forgetting, equal steps": "forgetting_steps", "gap closure": "gap_closure",
                "removable memory": "removable_memory",
            }  # fmt: skip
        rows = [(STANDARD.label, STANDARD.name, "plain")]
        for arm in (arm for arm in self.arms if arm.name != STANDARD.name):
            modes = {"own": f"{arm.label}: own", "off": f"{arm.label}: off"} if arm.modes else {"plain": arm.label}
            rows += [(label, arm.name, mode) for mode, label in modes.items()]
        return [arms_table(outcome, self.x_label, rows, columns)]

    def figures(self, outcome: Outcome) -> dict[str, list[Panel]]:
        """One panel for text held and text forgotten, one for held-out text.

        Where arms can be compared with standard training, both panels show shares within a seed.
        """

        def repeated(arm: str, mode: str) -> Summary | None:
            if not self.axes:
                return outcome.get(arm, "repeated", mode)
            # The same figure, paired on documents; sinks on are measured without a pair.
            paired = outcome.get(arm, "forgetting_steps", mode)
            return paired or outcome.over(UNSEEN_STEPS.name, arm, "repeated", mode)

        def validation(arm: str, mode: str) -> Summary | None:
            if self.axes:
                cost = outcome.get(arm, "validation_cost", mode)
                return None if cost is None else cost.times(100)
            return outcome.get(arm, "validation", mode)

        left, right = (
            ("loss, of never seen", "loss over standard training, %") if self.axes else ("nats per token",) * 2
        )
        return {
            "sweep": [
                self._panel("Repeated stories", left, repeated, ("own", "off", "plain")),
                self._panel("Held-out stories", right, validation, ("off", "plain")),
            ]
        }

    def _panel(self, title: str, y_label: str, figure: Figure, modes: Sequence[str]) -> Panel:
        series = [
            self._series(label if mode == "plain" else f"{label}, {mode}", line, figure, mode, label)
            for label, line in self.lines.items()
            for mode in modes
        ]
        standard = figure(STANDARD.name, "plain")
        return Panel(
            title=title,
            x_label=self.x_label,
            y_label=y_label,
            series=[s for s in series if s.x],
            lines={} if standard is None else {"standard training": standard.mean},
            logarithmic=self.logarithmic,
            ticks=self.ticks,
        )

    def _series(self, label: str, line: Sequence[tuple[float, Arm]], figure: Figure, mode: str, group: str) -> Series:
        found = [(x, s) for x, arm in line if (s := figure(arm.name, mode)) is not None]
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


def _noise(share: float, kind: str, base: Arm = SINKS, mark: str = "") -> Arm:
    """A share of exposures under wrong IDs. Where more of the pool is active, a wrong ID's sinks are mostly the right
    one's, or all of them are."""
    if not share:
        return base
    settings = dict(base.settings) | {"exposures.id_noise": share, "exposures.id_noise_kind": kind}
    label = f"{base.label}, {share:.0%} wrong IDs, {kind}"
    return replace(base, name=f"noise_{kind}_{share:g}{mark}", label=label, settings=settings)


def _budgeted(base: Arm, times: int) -> Arm:
    """Shared weights learn from each repeated story so often, under whatever ID it comes."""
    settings = dict(base.settings) | {"exposures.shared_budget": times}
    label = f"{base.label}, shared weights learn {times} times"
    return replace(base, name=f"{base.name}_budget_{times}", label=label, settings=settings)


def _exposed(base: Arm, times: int) -> Arm:
    """The arm with so many exposures, once through its plan."""
    return replace(
        base, name=f"{base.name}_seen_{times}", label=f"{base.label}, {times} exposures", exposures=times,
        equal_steps=False,
    )  # fmt: skip


def _packed(base: Arm) -> Arm:
    """Several stories a row: longer rows, and as many tokens a batch, once through the plan."""
    settings = dict(base.settings) | {
        "stream.packed": True,
        "stream.max_length": PACKED_LENGTH,
        "schedule.batch_size": PACKED_BATCH,
        "schedule.steps": None,
    }
    return replace(base, name=f"{base.name}_packed", label=f"{base.label}, packed", settings=settings)


def _one_mask(base: Arm) -> Arm:
    """The arm with the same choice of rows in every layer."""
    settings = dict(base.settings) | {"sinks.mask": "shared"}
    return replace(base, name=f"{base.name}_one_mask", label=f"{base.label}, one mask", settings=settings)


def _decay(base: Arm, decay: float) -> Arm:
    """Another weight decay of shared matrices."""
    if decay == OptimizerConfig.weight_decay:
        return base
    settings = dict(base.settings) | {"optimizer.weight_decay": decay}
    return replace(
        base, name=f"{base.name}_decay_{decay:g}", label=f"{base.label}, weight decay {decay:g}", settings=settings
    )


PACKED_LENGTH, PACKED_BATCH = 512, 6
"""Rows that hold two or three stories of ``mini`` and ``cpu``; six have about the tokens of 16 rows of one."""
EXPOSURES = (1, 2, 4, 16, 64, 256)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
NOISE = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)
DECAYS = (0.01, 0.1, 0.3, 1.0, 3.0)
EVERY = 128
"""Exposures of a story at ``cpu``, and more than at ``mini``: no budget."""
WRONG_EARLY = _noise(0.2, "fresh", early(10), "_early_rate_10")

ABLATIONS = (
    _ablation(
        "activation-ratio",
        "How much of the pool one sequence switches on",
        "Forgetting is best at a middling ratio (section 6).",
        "How far the ratio matters, under the paper's policy and under ours.",
        Ablation(
            {
                "Paper's split": [(r, _paper_ratio(r)) for r in RATIOS],
                "Sparse pool, x5": [(r, pool(2048, round(2048 * r))) for r in RATIOS],
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
        "How robust forgetting is to wrong IDs, new each time or always the same, and whether more active sinks help.",
        Ablation(
            {
                **{kind: [(s, _noise(s, kind)) for s in NOISE] for kind in ("fresh", "consistent")},
                **{
                    f"fresh, {label} of the pool active": [
                        (s, _noise(s, "fresh", pool(2048, active), mark)) for s in (0.0, 0.2, 0.5)
                    ]
                    for label, active, mark in (("half", 1024, "_0.5"), ("all", 2048, "_1"))
                },
            },
            "share of wrong IDs",
        ),
    ),
    _ablation(
        "id-noise-target",
        "A fifth of the exposures under a wrong ID, with and without a budget of exposures for shared weights",
        "Forgetting of 0.95 at 1 % of validation loss also with 20 % of wrong IDs, new each time (ours: a target).",
        "Whether that target is met in early layers by a budget that counts a text's exposures under any ID.",
        Ablation(
            {
                "No wrong IDs": [(EVERY, early(10))],
                "Wrong IDs": [(32, _budgeted(WRONG_EARLY, 32)), (EVERY, WRONG_EARLY)],
            },
            "exposures that shared weights learn from, at most",
        ),
    ),
    _ablation(
        "sink-rate",
        "How much faster sinks learn than shared weights",
        "Sinks that fit the residue first spare shared weights (ours).",
        "Whether a higher rate moves memory into sinks, and from where it harms; also with sinks in early layers only.",
        Ablation(
            {
                "All layers": [(t, SINKS if t == 5 else rate(t)) for t in (0.5, 1, 2, 3, 5, 10, 20)],
                "Early half": [(t, early(t)) for t in (2, 3, 5, 10, 20)],
            },
            "learning rate of sinks over that of shared weights",
            logarithmic=True,
        ),
    ),
    _ablation(
        "weight-decay",
        "How fast shared weights decay",
        "What shared weights took from a story before its sinks held it decays when nothing renews it (ours).",
        "Whether more decay makes sinks-off models forget more, and what it costs with and without sinks.",
        Ablation(
            {
                "Standard": [(d, _decay(STANDARD, d)) for d in DECAYS],
                "Sparse pool, x5": [(d, _decay(SINKS, d)) for d in DECAYS],
            },
            "weight decay of shared weights",
            logarithmic=True,
        ),
    ),
    _ablation(
        "exposure-budget",
        "Shared weights stop learning from a story after so many exposures",
        "A budget closes the gap and costs some of the benefit of repetition (ours).",
        "What budgets cost and bring; 0 is an adapter for each story beside a base that never saw it.",
        Ablation(
            {"Sparse pool, x5": [(r, budget(r)) for r in (0, 1, 2, 4, 8, 16, 32)]}, "exposures that shared weights see"
        ),
    ),
    _ablation(
        "exposures",
        "How often the repeated stories are seen",
        "Memory, and with it what sinks take away, grows with exposures.",
        "From how many exposures on a story is memorised, and what sinks then hold.",
        Ablation(
            {
                "Standard": [(n, DEDUPLICATED if n == 1 else _exposed(STANDARD, n)) for n in EXPOSURES],
                "Sparse pool, x5": [(n, _exposed(SINKS, n)) for n in EXPOSURES],
            },
            "exposures",
            logarithmic=True,
            axes=False,
        ),
    ),
    _ablation(
        "allocation",
        "Which rows of the pool belong to whom",
        "Rows of one's own, or runs of neighbours, change what an ID shares with others and little else (ours).",
        "What overlap of choices costs.",
        Ablation(
            {
                "Sparse pool, x5": [
                    (0, SINKS),
                    (1, with_sinks("sinks_block_16", "Sinks, blocks of 16", sinks__block=16)),
                    (
                        2,
                        with_sinks(
                            "sinks_disjoint", "Sinks, rows of their own", sinks__allocation="disjoint", sinks__pool=None
                        ),
                    ),
                ]
            },
            "allocation",
            ticks=("hashed", "hashed, blocks", "disjoint"),
        ),
    ),
    _ablation(
        "packing",
        "Several stories in a row, or one",
        "Packed documents that do not see each other train the same model (ours).",
        "Whether packing changes what is held and what is forgotten.",
        Ablation(
            {
                "Standard": [(0, STANDARD), (1, _packed(STANDARD))],
                "Sparse pool, x5": [(0, SINKS), (1, _packed(SINKS))],
            },
            "rows",
            ticks=("one story", "packed"),
        ),
    ),
    _ablation(
        "mask",
        "A choice of rows in each layer, or one for all layers",
        "Under one mask, the published code's, two stories share the same rows in every layer; a choice in each layer "
        "spreads what they share (ours).",
        "Whether it matters that layers choose apart, under the paper's policy and under ours.",
        Ablation(
            {
                "Paper's split": [(0, SINKS_PAPER), (1, _one_mask(SINKS_PAPER))],
                "Sparse pool, x5": [(0, SINKS), (1, _one_mask(SINKS))],
            },
            "mask",
            ticks=("per layer", "one for all"),
        ),
    ),
    _ablation(
        "placement",
        "Which layers have sinks",
        "Sinks in half of the layers hold less than sinks in all, and it matters which half it is (ours).",
        "Where sinks hold most; the pool of a layer stays the same, so either half has half as many sinks.",
        Ablation(
            {
                "Sparse pool, x5": [
                    (0, SINKS),
                    (1, early()),
                    (2, with_sinks("sinks_late", "Sinks, late half of the layers", sinks__layers="late")),
                ]
            },
            "layers with sinks",
            ticks=("all", "early half", "late half"),
        ),
    ),
)
