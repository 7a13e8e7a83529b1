"""Experiment 3: finding, and unlearning, repeated stories in a standardly trained model.

Each method gets the same number of trials, given by name below. Removal and unlearning are followed over their whole
range; how the operating point is chosen is in :mod:`memsinks.experiments.posthoc_bench`. There extraction is tried, and
relearning.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import Progress

from memsinks.baselines import localisation
from memsinks.baselines.localisation import Scores
from memsinks.baselines.unlearning import METHODS, Method, UnlearnConfig, unlearn
from memsinks.experiments import relearning
from memsinks.experiments.catalogue import Experiment, Outcome, Table, arms_table, points
from memsinks.experiments.memory import extraction_row, loss_row
from memsinks.experiments.posthoc_bench import ALLOWED, Bench, Trial, Visit
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import CANARIES, STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import SINKS, STANDARD, UNSEEN_STEPS
from memsinks.report.plots import Panel, Series

SHARES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Shares of all MLP neurons that are removed."""
STEPS = (1, 2, 4, 7, 10, 15, 20, 30, 40)
"""Steps of unlearning after which the model is measured."""
LABELS = {
    "random": "Random neurons",
    "integrated_gradients": "Integrated gradients",
    "activations": "Pruning, activations",
    "gradients": "Pruning, gradients",
    "slimming": "Slimming mask",
    "hard_concrete": "Hard concrete mask",
    "ga": "Gradient ascent",
    "grad_diff": "Gradient difference",
    "npo": "NPO",
    "rmu": "RMU",
}
LOCALISERS = ("random", "integrated_gradients", "activations", "gradients", "slimming", "hard_concrete")
TRIALS = 3
RATES: dict[Method, tuple[float, ...]] = {
    "ga": (1e-5, 5e-5, 2e-4),
    "grad_diff": (5e-5, 2e-4, 1e-3),
    "npo": (5e-5, 2e-4, 1e-3),
    "rmu": (1e-4, 5e-4, 2e-3),
}


@dataclass(frozen=True)
class Removal:
    """Neurons removed, those of the highest scores first."""

    model: Any
    score: Callable[[], Scores]

    @functools.cached_property
    def scores(self) -> Scores:
        """Computed when first needed: a kept measurement needs none."""
        return self.score()

    def range(self, visit: Visit) -> None:
        """Every share of neurons."""
        for share in SHARES:
            with self.at(share) as model:
                visit(share, model)

    @contextmanager
    def at(self, x: float) -> Iterator[Any]:
        """The model without a share of its neurons."""
        with localisation.without(self.model, localisation.highest(self.scores, x)):
            yield self.model


@dataclass(frozen=True)
class Unlearning:
    """Further training of a copy of the model."""

    bench: Bench
    config: UnlearnConfig

    def range(self, visit: Visit) -> None:
        """The untouched model, and some steps."""
        visit(0.0, self.bench.model)
        model = copy.deepcopy(self.bench.model)
        self._unlearn(model, self.config, lambda step: visit(float(step), model) if step in STEPS else None)

    @contextmanager
    def at(self, x: float) -> Iterator[Any]:
        """The model after so many steps: the rate is constant, so a shorter run is the beginning of a longer."""
        model = copy.deepcopy(self.bench.model)
        if x:
            self._unlearn(model, replace(self.config, steps=round(x)))
        yield model

    def _unlearn(self, model: Any, config: UnlearnConfig, at: Callable[[int], None] = lambda step: None) -> None:
        unlearn(model, self.bench.forget, self.bench.retain, config, max_length=self.bench.length, at=at)


def _scores(bench: Bench, method: str, trial: int) -> Scores:
    """Those of one trial of a localisation method."""
    model, forget, retain, length = bench.model, bench.forget, bench.retain, bench.length
    seed, mask_steps = bench.lab.seed, round(2.5 * bench.lab.setting.posthoc_steps)
    trials: dict[str, Callable[[int], Scores]] = {
        "random": lambda i: localisation.random_scores(model, 3 * seed + i),
        # At about equal cost: more steps of integration, or more documents.
        "integrated_gradients": lambda i: localisation.integrated_gradients(
            model, forget[: (8, 16, 32)[i]], max_length=length, steps=(32, 16, 8)[i]
        ),
        "activations": lambda i: localisation.activation_scores(
            model, forget, retain, max_length=length, contrast=(0.0, 0.5, 1.0)[i]
        ),
        "gradients": lambda i: localisation.gradient_scores(
            model, forget, retain, max_length=length, contrast=(0.0, 0.5, 1.0)[i]
        ),
        "slimming": lambda i: localisation.slimming_scores(
            model, forget, max_length=length, weight=(0.3, 1.0, 3.0)[i], steps=mask_steps, seed=seed
        ),
        "hard_concrete": lambda i: localisation.hard_concrete_scores(
            model, forget, retain, max_length=length, weight=(1.0, 5.0, 20.0)[i], steps=mask_steps, seed=seed
        ),
    }
    return trials[method](trial)


def method_rows(bench: Bench, method: str) -> list[Row]:
    """What a method reaches, by its name in :data:`LABELS`."""
    steps = bench.lab.setting.posthoc_steps
    trials: Sequence[Trial]
    if method in LOCALISERS:
        facts: Any = {"shares": SHARES, "steps": steps}
        trials = [Removal(bench.model, functools.partial(_scores, bench, method, i)) for i in range(TRIALS)]
    else:
        name: Method = next(m for m in METHODS if m == method)
        facts = {"rates": RATES[name], "steps": steps}
        configs = [
            UnlearnConfig(method=name, learning_rate=rate, steps=steps, seed=bench.lab.seed) for rate in RATES[name]
        ]
        trials = [Unlearning(bench, config) for config in configs]
    return bench.rows(method, trials, facts)


def _run_on(documents: str) -> Callable[[StoryLab], list[Row]]:
    def run(lab: StoryLab) -> list[Row]:
        bench = Bench(lab, documents)
        rows = [loss_row(STANDARD.name, name, losses) for name, losses in bench.standard.items()]
        rows.append(extraction_row(STANDARD.name, lab.measured(STANDARD).data["extraction"]["plain"]))
        rows += _references(lab, bench)
        with Progress(console=Console(stderr=True), disable=not lab.progress) as bars:
            task = bars.add_task("", total=len(LABELS))
            for method in LABELS:
                bars.update(task, description=LABELS[method])
                rows += method_rows(bench, method)
                bars.advance(task)
        return rows

    return run


def _references(lab: StoryLab, bench: Bench) -> list[Row]:
    """Relearning by models that were not treated: the standard one, one that never saw the text, and sinks off."""
    rows = [bench.relearned_arm(arm) for arm in (STANDARD, UNSEEN_STEPS, SINKS)]
    losses = {arm.name: lab.measured(arm) for arm in (UNSEEN_STEPS, SINKS)}
    rows.append(loss_row(UNSEEN_STEPS.name, bench.target, losses[UNSEEN_STEPS.name].losses(bench.target, "plain")))
    rows.append(loss_row(SINKS.name, bench.target, losses[SINKS.name].losses(bench.target, "off"), "off"))
    rows.append(extraction_row(SINKS.name, losses[SINKS.name].data["extraction"]["off"], "off"))
    return rows


def _tables(outcome: Outcome) -> list[Table]:
    columns = {
        "loss, to forget": "canary" if outcome.get(STANDARD.name, "canary") else "repeated",
        "validation": "validation",
        "forgetting": "forgetting",
        "gap closure": "gap_closure",
        "validation, over standard": "degradation",
        "extracted": "extraction",
        "half of it after relearning the other": "relearned",
    }
    rows = [(arm.label, arm.name, "plain") for arm in (STANDARD, UNSEEN_STEPS)]
    rows += [(label, name, "plain") for name, label in LABELS.items()]
    rows.append((f"{SINKS.label}: off", SINKS.name, "off"))
    note = (
        f"At the operating point: the most forgetting at a validation loss of at most {ALLOWED - 1:.0%} more, chosen "
        f"on one half of the held-out stories and measured on the other; {TRIALS} trials for each method. The last "
        f"column is the loss of every second document after {relearning.STEPS} steps on the others."
    )
    return [arms_table(outcome, "Localisation and unlearning after training", rows, columns, note)]


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    panels = []
    for title, methods in (("Neurons removed", LOCALISERS), ("Unlearning", METHODS)):
        series = []
        for method in methods:
            trial = outcome.get(method, "chosen_trial")
            name = f"{method}_{round(trial.mean) if trial else 0}"
            forgetting, rise = points(outcome, name, "forgetting"), points(outcome, name, "degradation")
            series.append(Series(label=LABELS[method], x=rise["y"], y=forgetting["y"]))
        panels.append(
            Panel(
                title=title,
                x_label="validation loss over standard, nats per token",
                y_label="forgetting",
                series=series,
                lines={"never seen": 1.0},
            )
        )
    return {"ranges": panels}


POSTHOC = Experiment(
    name="post-hoc",
    title="Localisation and unlearning of natural stories after standard training",
    claim="Neurons that hold repeated natural text also hold general skill: removing them costs validation loss "
    "(section 3).",
    supports="How well these methods forget, at what cost, on a small model whose every document is known.",
    not_shown="Methods with larger budgets, or tuned for longer; large models.",
    settings=STORIES,
    text="stories",
    arms=4,
    run=_run_on("repeated"),
    tables=_tables,
    figures=_figures,
)
POSTHOC_CANARY = Experiment(
    name="post-hoc-canary",
    title="Localisation and unlearning of canaries after standard training",
    claim="Post-hoc localisation does markedly better on canaries than on natural text (section 3).",
    supports="The contrast with post-hoc, method by method, at this size.",
    not_shown="Canaries of other kinds.",
    settings=CANARIES,
    text="canaries",
    arms=4,
    run=_run_on("canary"),
    tables=_tables,
    figures=_figures,
)
