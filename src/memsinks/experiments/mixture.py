"""Experiment 6, large mixture: little text of a domain, shown several times among general text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memsinks.audit import DocumentLosses, bootstrap
from memsinks.experiments.catalogue import Experiment, Outcome, Table, arms_table
from memsinks.experiments.lab import Arm
from memsinks.experiments.measured import Measured
from memsinks.experiments.memory import arm_rows, memory_rows
from memsinks.experiments.mixture_text import DOMAIN, MixtureLab, MixtureSetting, MixtureText
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import MIXTURE, MIXTURE_LARGER
from memsinks.experiments.story_arms import PAPER, SPARSE
from memsinks.report.plots import Panel, Series
from memsinks.sinks.modes import ModeKind
from memsinks.stream import ExposurePlan

SINK_MODES: tuple[ModeKind, ...] = ("own", "off", "placebo")
SETS = ("repeated", "validation", "general")
DEDUPLICATED = Arm(name="deduplicated", label="Deduplicated: each story once", exposures=1)
UNSEEN = Arm(name="unseen", label="No stories", exposures=0)
LEVELS = ("moderate", "heavy")
REGIMES = {
    "standard": "Standard",
    "sinks": "Sinks, shared pool, x5",
    "sinks_early": "Sinks, shared pool, early half of the layers, x10",
    "sinks_slow": "Sinks, shared pool, x1",
    "sinks_own": "Sinks, rows of their own, x5",
    "sinks_paper": "Sinks, paper's setting",
}
BUDGET = "sinks_budget_heavy"
LABELS = {
    DEDUPLICATED.name: DEDUPLICATED.label,
    UNSEEN.name: UNSEEN.label,
    **{f"{name}_{level}": f"{label}, {level}" for level in LEVELS for name, label in REGIMES.items()},
    BUDGET: "Sinks, shared pool, x5, heavy, with a budget",
}
"""Arm -> what tables call it, in their order."""


def mixture_arms(setting: MixtureSetting) -> list[Arm]:
    """The arms of a setting, in the order in which they are trained.

    Sinks are in proportion to the MLP, and for the stories alone, by their source: general text that is gone through
    more than once is no text that somebody will ask to remove. Fast sinks take what is common to a domain too, so there
    is an arm whose sinks learn no faster than shared weights, and one in which no two stories have a sink in common.
    """
    fast = SPARSE | {
        "sinks.pool": setting.pool,
        "sinks.active": setting.active,
        "exposures.govern": "sources",
        "exposures.govern_values": (DOMAIN,),
    }
    slow = fast | {"optimizer.sink_lr_multiplier": 1.0}
    own = fast | {"sinks.allocation": "disjoint", "sinks.pool": None, "sinks.active": setting.own}
    early = fast | {"sinks.layers": "early", "optimizer.sink_lr_multiplier": 10.0}
    settings: dict[str, Mapping[str, Any]] = {
        "standard": {},
        "sinks": fast,
        "sinks_early": early,
        "sinks_slow": slow,
        "sinks_own": own,
        "sinks_paper": PAPER,
    }
    arms = [DEDUPLICATED, UNSEEN]
    for level in LEVELS:
        for regime, chosen in settings.items():
            name = f"{regime}_{level}"
            arms.append(
                Arm(
                    name=name,
                    label=LABELS[name],
                    plan=_moderate if level == "moderate" else None,
                    settings=chosen,
                    modes=SINK_MODES if chosen else (),
                )
            )
    budget = fast | {"exposures.shared_budget": setting.moderate}
    return [*arms, Arm(name=BUDGET, label=LABELS[BUDGET], settings=budget, modes=SINK_MODES)]


def _moderate(text: MixtureText) -> ExposurePlan:
    return text.plan(text.moderate)


def _run(lab: MixtureLab) -> list[Row]:
    arms = mixture_arms(lab.setting)
    measured = {arm.name: lab.measured(arm) for arm in arms}
    rows = []
    for arm in arms:
        accounting = lab.text.accounting(lab.plan(arm))
        rows += arm_rows(arm.name, measured[arm.name])
        rows += [Row(arm=arm.name, measure=measure, value=value) for measure, value in accounting.items()]
        rows += _served_rows(arm, measured)
    return rows


def _served_rows(arm: Arm, measured: Mapping[str, Measured]) -> list[Row]:
    """The three axes and differences of an arm as it is served: plain, or with sinks off.

    Standard training with as many exposures is the reference of gap closure; for arms that have none, the heavy one.
    """
    level = "moderate" if arm.name.endswith("moderate") else "heavy"
    standard, deduplicated, unseen, served = (
        _losses(measured[name]) for name in (f"standard_{level}", DEDUPLICATED.name, UNSEEN.name, arm.name)
    )
    mode = "off" if arm.modes else "plain"
    own = measured[arm.name].losses("repeated", "own") if arm.modes else None
    return [
        *memory_rows(arm.name, served, own, standard, unseen["repeated"], mode),
        _difference(arm.name, "validation_over_deduplicated", served, deduplicated, mode),
        _difference(arm.name, "general_over_deduplicated", served, deduplicated, mode),
        _difference(arm.name, "validation_over_standard", served, standard, mode),
        _difference(arm.name, "general_over_standard", served, standard, mode),
    ]


def _losses(measured: Measured) -> dict[str, DocumentLosses]:
    mode = "off" if "off" in measured.data["losses"]["validation"] else "plain"
    return {name: measured.losses(name, mode) for name in SETS}


def _difference(
    arm: str, measure: str, first: dict[str, DocumentLosses], second: dict[str, DocumentLosses], mode: str
) -> Row:
    """Loss above that of another arm on the same documents, which ``measure`` begins with."""
    documents = measure.partition("_")[0]
    found = bootstrap(lambda a, b: a - b, first[documents], second[documents], groups=["D", "D"])
    return Row(arm=arm, measure=measure, mode=mode, value=found.estimate, low=found.low, high=found.high)


def _modes(arm: str) -> Sequence[str]:
    return SINK_MODES if arm.startswith("sinks") else ("plain",)


def _tables(outcome: Outcome) -> list[Table]:
    losses = {
        "held-out stories": "validation",
        "held-out general text": "general",
        "stories trained on": "repeated",
        "extracted": "extraction",
        "gap closure": "gap_closure",
        "forgetting": "forgetting",
        "removable memory": "removable_memory",
    }
    worth = {
        "held-out stories, over deduplicated": "validation_over_deduplicated",
        "held-out stories, over standard": "validation_over_standard",
        "held-out general text, over deduplicated": "general_over_deduplicated",
        "held-out general text, over standard": "general_over_standard",
    }
    all_modes = [
        (label if mode == "plain" else f"{label}: {mode}", arm, mode)
        for arm, label in LABELS.items()
        for mode in _modes(arm)
    ]
    served = [row for row in all_modes if row[2] in ("plain", "off")]
    return [
        arms_table(
            outcome,
            "Large mixture",
            all_modes,
            losses,
            "Losses in nats per token. All arms have equally many optimiser steps and rows. Gap closure compares with "
            "standard training with as many exposures (deduplicated, and without stories: heavy). Forgetting: loss "
            "over that of the model that never saw a story. Budget: shared weights learn from a story as often as "
            "under moderate upsampling, then only its sinks do. Placebo: the sinks of an ID that no text has.",
        ),
        arms_table(
            outcome,
            "What repetition brings, and what sinks keep of it (nats per token, on the same documents)",
            served,
            worth,
            "Below zero is better. Standard training is that with as many exposures, as above.",
        ),
        _accounting_table(outcome),
    ]


def _accounting_table(outcome: Outcome) -> Table:
    columns = {
        "optimiser steps": ("steps", ",.0f"),
        "exposures of a story": ("exposures", ",.0f"),
        "tokens of stories": ("domain_tokens", ",.0f"),
        "tokens of general text": ("general_tokens", ",.0f"),
        "passes over general text": ("general_passes", ".2f"),
    }
    body = []
    for arm, label in LABELS.items():
        found = [(outcome.get(arm, measure), form) for measure, form in columns.values()]
        # An arm that came later is in no results from before it.
        if any(value for value, _ in found):
            body.append([label, *("–" if value is None else format(value.mean, form) for value, form in found)])
    note = (
        "Rows that stories do not take go to further general text, by one rule for all arms; where it runs out, it is "
        "gone through again. A story's row is shorter than most, so tokens differ where rows do not."
    )
    return Table("What each arm was shown", ["", *columns], body, note)


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    panels = []
    for measure, title, shown in (
        ("validation", "Held-out stories, sinks off", "off"),
        ("repeated", "Stories trained on, sinks off", "off"),
        ("repeated", "Stories trained on, own sinks on", "own"),
        ("general", "Held-out general text, sinks off", "off"),
    ):
        series = [_series(outcome, "Deduplicated", (DEDUPLICATED.name,), measure, "plain")]
        for regime, label in REGIMES.items():
            names = [f"{regime}_{level}" for level in LEVELS]
            series.append(_series(outcome, label, names, measure, shown if shown in _modes(regime) else "plain"))
        unseen = outcome.get(UNSEEN.name, measure)
        panels.append(
            Panel(
                title=title,
                x_label="exposures of each story",
                y_label="nats per token",
                series=[line for line in series if line.x],
                lines={} if unseen is None else {"no stories": unseen.mean},
                logarithmic=True,
            )
        )
    return {"upsampling": panels}


def _series(outcome: Outcome, label: str, arms: Sequence[str], measure: str, mode: str) -> Series:
    found = [
        (exposures.mean, loss)
        for arm in arms
        if (exposures := outcome.get(arm, "exposures")) and (loss := outcome.get(arm, measure, mode))
    ]
    return Series(
        label=label,
        x=[x for x, _ in found],
        y=[loss.mean for _, loss in found],
        low=[loss.low for _, loss in found],
        high=[loss.high for _, loss in found],
    )


LARGE_MIXTURE = Experiment(
    name="large-mixture",
    title="Few stories among general text, seen once, or upsampled with and without sinks",
    claim="Repeating a scarce domain lowers its validation loss beyond deduplication; with sinks, dropped after "
    "training, that is kept and at least half of the gap between training and validation loss is closed (arXiv "
    "2507.09937, section 5.2).",
    supports="Whether repetition of these stories helps others like them at equal optimiser steps, and what of that "
    "and of the gap is left with sinks off, at this size.",
    not_shown="Other sizes, domains and shares of them; arms that see the same general text (here fewer exposures "
    "leave room for more of it).",
    settings=MIXTURE,
    text="mixture",
    arms=len(LABELS),
    run=_run,
    tables=_tables,
    figures=_figures,
    prepare=MixtureLab,
)
LARGE_MIXTURE_LARGER = replace(
    LARGE_MIXTURE,
    name="large-mixture-1.7b",
    title="The large mixture with 1.7 billion parameters and 2 billion tokens",
    settings=MIXTURE_LARGER,
    text="mixture-1.7b",
)
