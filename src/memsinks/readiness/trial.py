"""Small paired runs on a sample of a run's own text: what repetition brings, and what its sinks hold and cost.

Four arms of one small model, which differ only in how often they see the target and in whether it has sinks; they share
initial values, the order of the data and the number of optimiser steps.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks.audit import DocumentLosses, Interval, bootstrap, forgetting
from memsinks.config import flat_values
from memsinks.errors import ConfigError
from memsinks.experiments.lab import Arm, Lab, LabSetting
from memsinks.experiments.measured import Measured
from memsinks.experiments.memory import arm_rows
from memsinks.experiments.relearning import relearned
from memsinks.experiments.results import Row
from memsinks.planning.plan import RemovalPlan
from memsinks.readiness.answer import Evidence, Finding
from memsinks.readiness.trial_text import TrialText, sample
from memsinks.report.format import interval as bounds
from memsinks.report.format import number
from memsinks.runs.build import Blueprint
from memsinks.sinks.config import mlp_width
from memsinks.sinks.modes import Mode

TOKENS = 1_000_000
LENGTH, PREFIX = 256, 32
"""Tokens in a row, and tokens that extraction gives and wants, at most."""
_CARRIED = ("govern", "govern_values", "govern_column", "placebo_share", "shared_budget", "governed_until")
_GOLDFISH = ("goldfish", "goldfish_context")
FOLDED = "folded"
"""The mode in which all of the target's sinks are on, whatever the text."""
MEMORISED = 0.5
"""Share of a never-seen model's loss below which text counts as memorised."""


TOO_SMALL = Finding(
    grave=False,
    says="Even standard training did not memorise the governed text in the trial, so it says nothing about sinks.",
    remedy="Make the trial larger: --trial-tokens, --trial-exposures.",
)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """How large a trial is.

    Attributes:
        tokens: of an arm, about.
        exposures: of the target; None for those of the plan, up to 64, or 16 if it has none that are repeated.

    Raises:
        ConfigError: a number is out of range.
    """

    tokens: int = TOKENS
    exposures: int | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(f"--trial-tokens is {self.tokens}; it must be at least 1")
        if self.exposures is not None and self.exposures < 2:
            raise ConfigError(f"--trial-exposures is {self.exposures}; a trial of repetition needs at least 2")


@dataclass(frozen=True)
class Compared:
    """A figure, or a difference of two losses on the same documents, with its 95 % interval over passages."""

    interval: Interval

    @property
    def shown(self) -> str:
        """The figure and its interval."""
        return f"{number(self.interval.estimate)} {bounds(self.interval.bounds)}"

    def evidence(self, what: str) -> Evidence:
        """The figure, as evidence."""
        value = {"value": self.interval.estimate, "low": self.interval.low, "high": self.interval.high}
        return Evidence(what=what, shown=self.shown, value=value)


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """What a trial found. Losses are nats per token; a positive difference means that the second model is better.

    Attributes:
        facts: what was trained, as text by name.
        rows: every loss and rate.
        benefit: on the domain: seen once, over repeated.
        domain_cost: on the domain: sinks off, over seen once.
        other_cost: on other held-out text: sinks off, over standard training.
        damage: on other held-out text: the target's sinks on, over sinks off; on the domain where there is none.
        memorised: loss of the target under standard training over that of a model that never saw it.
        forgotten: loss of the target with sinks off over that of a model that never saw it.
        extracted: rate of target passages that come out word for word, by arm: standard, own, off,
            unseen.
        tried: passages on which that was tried.
        relearned: loss of one half of the target after a few steps on the other: standard, off, unseen; None for fewer
            than four passages.
    """

    facts: Mapping[str, str]
    rows: tuple[Row, ...]
    benefit: Compared | None
    domain_cost: Compared | None
    other_cost: Compared | None
    damage: Compared | None
    memorised: Compared
    forgotten: Compared
    extracted: dict[str, float]
    tried: int
    relearned: dict[str, float] | None

    @property
    def tells(self) -> bool:
        """Whether standard training memorised the target, so that there was something to remove."""
        return self.memorised.interval.estimate < MEMORISED

    def comes_back(self, share: float) -> bool:
        """Whether relearning one half leaves the other below this share of a never-seen model's loss."""
        return self.relearned is not None and self.relearned["off"] < share * self.relearned["unseen"]


def run_trial(
    plan: RemovalPlan, blueprint: Blueprint, config: TrialConfig, directory: Path, *, progress: bool = True
) -> TrialOutcome:
    """Train the arms, or go on with them, and measure them.

    Args:
        plan: of the run.
        blueprint: with the run's text and model.
        config: size.
        directory: for arms and measurements; another trial of the same text goes on from them.
        progress: show progress.

    Raises:
        InputError: the corpus has too little text for a trial.
        ConfigError: the run's sinks do not fit the trial's model.
    """
    run = plan.config
    length = min(LENGTH, run.stream.max_length)
    chosen = sample(blueprint.text, config.tokens, config.exposures, length, run.seed)
    given = max(1, min(PREFIX, max(len(passage.tokens) for passage in chosen.sets()["target"]) // 2))
    setting = LabSetting(
        exposures=chosen.exposures,
        max_length=length,
        curve_points=0,
        prefix=given,
        suffix=given,
    )
    lab: Lab[LabSetting, TrialText] = Lab(setting, chosen, run.seed, directory, progress=progress)
    arms = _arms(plan, setting, mlp_width(blueprint.model_config))
    measured = {name: lab.measured(arm) for name, arm in arms.items()}

    def losses(name: str, documents: str, mode: str = "plain") -> DocumentLosses | None:
        found = measured[name]
        return found.losses(documents, mode) if documents in found.data["losses"] else None

    elsewhere = "other" if losses("standard", "other") is not None else "domain"
    return TrialOutcome(
        facts=_facts(lab, arms["standard"], plan),
        rows=tuple(row for name, found in measured.items() for row in arm_rows(name, found)),
        benefit=_difference(losses("once", "domain"), losses("standard", "domain")),
        domain_cost=_difference(losses("sinks", "domain", "off"), losses("once", "domain")),
        other_cost=_difference(losses("sinks", "other", "off"), losses("standard", "other")),
        damage=_difference(losses("sinks", elsewhere, FOLDED), losses("sinks", elsewhere, "off")),
        memorised=_ratio(losses("standard", "target"), losses("unseen", "target")),
        forgotten=_ratio(losses("sinks", "target", "off"), losses("unseen", "target")),
        extracted={
            "standard": measured["standard"].data["extraction"]["plain"]["rate"],
            "own": measured["sinks"].data["extraction"]["own"]["rate"],
            "off": measured["sinks"].data["extraction"]["off"]["rate"],
            "unseen": measured["unseen"].data["extraction"]["plain"]["rate"],
        },
        tried=measured["standard"].data["extraction"]["plain"]["tried"],
        relearned=_relearned(lab, arms, measured),
    )


def _arms(plan: RemovalPlan, setting: LabSetting, width: int) -> dict[str, Arm]:
    run = plan.config
    values = dict(flat_values(run))
    goldfish = {f"exposures.{key}": values[f"exposures.{key}"] for key in _GOLDFISH}
    sinks = (
        goldfish
        | {f"exposures.{key}": values[f"exposures.{key}"] for key in _CARRIED}
        | _sinks(plan, setting.width / width)
        | {"optimizer.sink_lr_multiplier": run.optimizer.sink_lr_multiplier}
    )
    return {
        "standard": Arm(name="standard", label="Repeated", settings=goldfish),
        "once": Arm(name="once", label="Once", exposures=1, settings=goldfish),
        "unseen": Arm(name="unseen", label="Never", exposures=0, settings=goldfish),
        "sinks": Arm(name="sinks", label="Repeated, with sinks", settings=sinks, modes=("own", "off"), chosen=_folded),
    }


def _folded(text: TrialText) -> dict[str, Mode]:
    ids = text.corpus.sequence_ids[text.target]
    return {FOLDED: Mode("chosen", tuple(dict.fromkeys(map(int, ids))))}


def _sinks(plan: RemovalPlan, scale: float) -> dict[str, Any]:
    """The run's sinks, in proportion to the width of the trial's model."""
    sinks, config = plan.config.sinks, plan.of_run.candidate.config
    kept = {"sinks.attach": True, "sinks.block": sinks.block, "sinks.mask": sinks.mask, "sinks.layers": _layers(plan)}
    if sinks.shared is not None:
        return kept | {"sinks.shared": sinks.shared, "sinks.active": 0.3 if sinks.active is None else sinks.active}
    scale /= sinks.block
    active = max(1, round(int(config.active) * scale)) * sinks.block
    if sinks.allocation == "disjoint":
        return kept | {"sinks.allocation": "disjoint", "sinks.active": active}
    pool = max(active, round(int(config.pool) * scale) * sinks.block)
    return kept | {"sinks.pool": pool, "sinks.active": active}


def _layers(plan: RemovalPlan) -> Any:
    """Halves are those of the trial's model; numbers of other layers mean nothing in it.

    The trial's model is a new one, for which auto would mean another thing than for a pretrained one.
    """
    layers = plan.config.sinks.layers
    pretrained = plan.config.model.pretrained is not None
    return layers if isinstance(layers, str) and not (layers == "auto" and pretrained) else ()


def _facts(lab: Lab[LabSetting, TrialText], standard: Arm, plan: RemovalPlan) -> dict[str, str]:
    text, setting, sinks = lab.text, lab.setting, plan.config.sinks
    corpus, arm = text.corpus, lab.plan(standard)
    often = int(setting.exposures * corpus.lengths[text.target].sum())
    facts = {
        "target": f"{len(text.target):,} governed documents, {setting.exposures} times each: {often:,} tokens",
        "rest": f"{int((text.rest > 0).sum()):,} other documents: {arm.tokens - often:,} tokens",
        "model": f"{setting.layers} layers, hidden {setting.hidden}, MLP {setting.width}; vocabulary of the corpus",
        "steps of each arm": f"{lab.steps(arm):,} of {setting.batch_size} rows of up to {setting.max_length} tokens",
        "measured": ", ".join(f"{len(documents):,} {name}" for name, documents in text.sets().items())
        + f" passages; seed {lab.seed}",
    }
    changed = []
    if sinks.allocation == "hybrid":
        changed.append("hybrid allocation is tried as hashed")
    if sinks.layers and not isinstance(sinks.layers, str):
        changed.append("sinks are in all layers")
    return facts | ({"other than in the run file": ", ".join(changed)} if changed else {})


def _relearned(
    lab: Lab[LabSetting, TrialText], arms: Mapping[str, Arm], measured: Mapping[str, Measured]
) -> dict[str, float] | None:
    documents = lab.text.sets()["target"]
    if len(documents) < 4:
        return None

    def after(name: str) -> Callable[[], float]:
        return lambda: (
            relearned(
                lab.model(arms[name], plain=True), documents, max_length=lab.setting.max_length, seed=lab.seed
            ).mean
        )

    names = {"standard": "standard", "off": "sinks", "unseen": "unseen"}
    return {
        label: lab.kept(f"relearned-{name}", measured[name].data["fingerprint"], after(name))
        for label, name in names.items()
    }


def _ratio(first: DocumentLosses | None, second: DocumentLosses | None) -> Compared:
    assert first is not None
    assert second is not None
    return Compared(bootstrap(forgetting, first, second, groups=["", ""]))


def _difference(first: DocumentLosses | None, second: DocumentLosses | None) -> Compared | None:
    if first is None or second is None:
        return None
    return Compared(bootstrap(lambda a, b: a - b, first, second, groups=["", ""]))
