"""``memsinks reproduce``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable

from memsinks.errors import ConfigError
from memsinks.experiments.catalogue import SCALES, SEEDS, Experiment, Scale, Table
from memsinks.experiments.reproduce import EXPERIMENTS, compare, reproduce


@dataclass(frozen=True)
class Reproduce:
    """Run the paper's experiments and ours by name; a killed one goes on where it was."""

    name: tyro.conf.Positional[str | None] = None
    """Of the experiment, or all."""
    scale: Scale = "mini"
    """smoke (seconds), mini (at most 4 minutes an arm on 2 cores), cpu (20), gpu (one card) or paper (its sizes)."""
    output: Path = Path("runs/reproduce")
    """Where arms and results go; experiments on the same text share their arms."""
    seeds: tuple[int, ...] = ()
    """Seeds to run; by default as many as the scale asks for."""
    compare: Path | None = None
    """A committed summary.json: say which figures lie outside its intervals."""
    listing: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Say what each experiment is, how long it takes, what it supports and what it does not."""

    def run(self) -> int:
        """Run the command."""
        console = Console(highlight=False, soft_wrap=True)
        if self.listing or self.name is None:
            for experiment in EXPERIMENTS.values():
                _describe(console, experiment)
            return 0
        names = [self.name]
        if self.name == "all":
            names = [name for name, experiment in EXPERIMENTS.items() if self.scale in experiment.settings]
        if self.compare is not None and len(names) > 1:
            raise ConfigError("--compare takes the summary of one experiment; name it")
        for name in names:
            for table in reproduce(name, self.scale, self.output, seeds=self.seeds or None):
                _print_table(console, _rich(table))
            folder = self.output / f"{name}-{self.scale}"
            console.print(f"{folder}: table.md, rows.csv, summary.json, a JSON file a seed, and figures")
            if self.compare is not None:
                return _compare(console, folder, self.compare)
        return 0


def _compare(console: Console, folder: Path, reference: Path) -> int:
    outside = compare(folder, reference)
    for line in outside:
        console.print(line)
    console.print(f"{len(outside)} figures lie outside the intervals of {reference}")
    return 1 if outside else 0


def _describe(console: Console, experiment: Experiment) -> None:
    console.print(f"[bold]{experiment.name}[/bold]  {experiment.title}")
    console.print(f"  claim: {experiment.claim}")
    console.print(f"  supports: {experiment.supports}")
    console.print(f"  does not show: {experiment.not_shown}")
    times = ", ".join(f"{scale} {_time(experiment, scale)}" for scale in SCALES if scale in experiment.settings)
    console.print(f"  {experiment.arms} arms a seed; {times}\n")


def _time(experiment: Experiment, scale: Scale) -> str:
    seeds = SEEDS[scale]
    if not experiment.arms:
        return f"seconds x {seeds} seed{'s' if seeds > 1 else ''}"
    each = {"smoke": "seconds an arm", "mini": "2 to 4 min an arm", "cpu": "10 to 20 min an arm"}
    return f"{each.get(scale, 'not measured')} x {seeds} seed{'s' if seeds > 1 else ''}"


def _print_table(console: Console, table: RichTable) -> None:
    """As wide as the terminal; in a file or a pipe, as wide as the table."""
    if not console.is_terminal:
        console.width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table)


def _rich(table: Table) -> RichTable:
    made = RichTable(title=table.title, caption=table.note or None)
    for index, column in enumerate(table.header):
        made.add_column(column, justify="right" if index else "left")
    for row in table.rows:
        # Intervals do not fit a terminal; they are in table.md.
        made.add_row(row[0], *(text.partition(" [")[0] for text in row[1:]))
    return made
