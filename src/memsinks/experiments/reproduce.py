"""Run an experiment: one seed after the other, one arm at a time; then its tables and figures."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from memsinks.errors import ConfigError, InputError
from memsinks.experiments.ablations import ABLATIONS
from memsinks.experiments.catalogue import SEEDS, Experiment, Outcome, Scale, Table
from memsinks.experiments.continued import CONTINUED
from memsinks.experiments.dynamics import DYNAMICS
from memsinks.experiments.facts import code_facts, hardware_facts
from memsinks.experiments.frontier import FRONTIER
from memsinks.experiments.masking import MASKING
from memsinks.experiments.mixture import LARGE_MIXTURE, LARGE_MIXTURE_LARGER
from memsinks.experiments.model_depth import MODEL_DEPTH
from memsinks.experiments.model_size import MODEL_SIZE
from memsinks.experiments.per_source import PER_SOURCE
from memsinks.experiments.posthoc import POSTHOC, POSTHOC_CANARY
from memsinks.experiments.results import (
    Row,
    read_seed,
    summarise,
    write_csv,
    write_seed,
    write_summary,
)
from memsinks.experiments.routing import ROUTING
from memsinks.experiments.theory import THEORY
from memsinks.experiments.ts_repetition import TS_CANARY, TS_REPETITION
from memsinks.report.plots import write_panels

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        TS_REPETITION,
        TS_CANARY,
        POSTHOC,
        POSTHOC_CANARY,
        MASKING,
        FRONTIER,
        *ABLATIONS,
        MODEL_SIZE,
        MODEL_DEPTH,
        PER_SOURCE,
        ROUTING,
        DYNAMICS,
        LARGE_MIXTURE,
        LARGE_MIXTURE_LARGER,
        CONTINUED,
        THEORY,
    )
}
SUMMARY = "summary.json"


def reproduce(
    name: str, scale: Scale, output: Path, *, seeds: Sequence[int] | None = None, progress: bool = True
) -> list[Table]:
    """Run one experiment, or go on with it, and write its results to ``output/<name>-<scale>``.

    Arms are trained in ``output/arms``, where experiments on the same text share them. Results of seeds that an earlier
    call measured stay and count.

    Args:
        name: of the experiment.
        scale: its size.
        output: folder for everything.
        seeds: default as many as the scale asks for, from 0.
        progress: show progress.

    Returns:
        The tables, as written to ``table.md``.

    Raises:
        ConfigError: there is no experiment of this name, or it has no such scale.
        InputError: text cannot be loaded, or the folder cannot be written.
    """
    experiment = find(name)
    if scale not in experiment.settings:
        raise ConfigError(f"{name} has no scale {scale!r}; choose from {', '.join(experiment.settings)}")
    wanted = range(SEEDS[scale]) if seeds is None else seeds
    folder = output / f"{name}-{scale}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error
    console = Console(stderr=True, quiet=not progress, highlight=False)
    for seed in wanted:
        console.print(f"{name}, scale {scale}, seed {seed}")
        started = time.perf_counter()
        rows = experiment.measure(scale, seed, output, progress=progress)
        facts = {
            "experiment": name,
            "scale": scale,
            "seed": seed,
            "setting": asdict(experiment.settings[scale]),
            "code": code_facts(),
            "hardware": hardware_facts(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        write_seed(folder / f"seed-{seed}.json", facts, rows)
        report(experiment, folder)
    return report(experiment, folder)


def report(experiment: Experiment, folder: Path) -> list[Table]:
    """Tables and figures from the seeds in a folder."""
    found = outcome_of(folder)
    write_csv(folder / "rows.csv", {seed: list(rows) for seed, rows in found.seeds.items()})
    write_summary(folder / SUMMARY, found.seeds, found.summary)
    tables = experiment.tables(found)
    (folder / "table.md").write_text("\n".join(table.markdown() for table in tables))
    for name, panels in experiment.figures(found).items():
        # Seeds may lack arms, where a run was cut off.
        shown = [replace(panel, series=[series for series in panel.series if series.x]) for panel in panels]
        if drawn := [panel for panel in shown if panel.series]:
            write_panels(drawn, folder / f"{name}.png")
    return tables


def outcome_of(folder: Path) -> Outcome:
    """What the seeds in a folder say."""
    seeds: dict[int, list[Row]] = {}
    for file in sorted(folder.glob("seed-*.json")):
        facts, rows = read_seed(file)
        seeds[int(facts["seed"])] = rows
    return Outcome(seeds, summarise(seeds.values()))


def compare(folder: Path, reference: Path) -> list[str]:
    """Figures of a folder's summary that lie outside the intervals of another's, as sentences; seconds are no figure.

    Raises:
        InputError: a summary cannot be read.
    """
    ours, theirs = _figures(folder / SUMMARY), _figures(reference)
    shared = [key for key in theirs if key in ours and theirs[key]["low"] is not None and key[1] != "seconds"]
    if not shared:
        raise InputError(f"{reference} and {folder / SUMMARY} have no figure with an interval in common")
    return [
        f"{' '.join(str(part) for part in key if part is not None)}: {ours[key]['mean']:.4g} is outside "
        f"[{theirs[key]['low']:.4g}, {theirs[key]['high']:.4g}]"
        for key in shared
        if not theirs[key]["low"] <= ours[key]["mean"] <= theirs[key]["high"]
    ]


def find(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(f"there is no experiment {name!r}; choose from {', '.join(EXPERIMENTS)}, or all")
    return EXPERIMENTS[name]


def _figures(file: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    try:
        entries = json.loads(file.read_text())["figures"]
        return {(e["arm"], e["measure"], e["mode"], e["x"]): e for e in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: no summary of an experiment can be read ({error})") from error
