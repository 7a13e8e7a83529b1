"""The plan of exposures of a run: made of its settings, and shown before it trains."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memsinks.corpus import Corpus
from memsinks.errors import ConfigError, InputError
from memsinks.runs.config import RunConfig
from memsinks.stream import ExposurePlan
from memsinks.stream.summary import exposures_by_source
from memsinks.training.run import TrainText, planned_steps, training_rows

_WIDTH = 140
"""Most columns of the table where nothing narrower is known to be there."""


def planned_exposures(config: RunConfig, corpus: Corpus) -> ExposurePlan:
    """The plan of a run: its ``[exposures]`` in their documented order, each step on the plan that the last one left.

    The order is ``plan`` (or every training document once), ``upsample``, ``weights``, ``repeat``, ``epochs``, ``cap``,
    ``cap_id``.

    Raises:
        InputError: the plan file cannot be used, or a setting does not fit the corpus; the message names its key.
    """
    chosen, seed = config.exposures, config.seed
    plan = ExposurePlan.once(corpus) if chosen.plan is None else ExposurePlan.load(chosen.plan, corpus)
    if chosen.upsample:
        with _about("upsample"):
            plan = plan.upsample(chosen.upsample, column=chosen.upsample_column, seed=seed)
    if chosen.weights:
        with _about("weights"):
            plan = plan.weighted(
                chosen.weights,
                mixture_tokens=chosen.mixture_tokens,
                mixture_epochs=chosen.mixture_epochs,
                subsample=chosen.subsample,
                seed=seed,
            )
    if chosen.repeat:
        plan = plan.repeat(chosen.repeat, chosen.times)
    with _about("epochs"):
        plan = plan.epochs(chosen.epochs)
    if chosen.cap is not None:
        plan = plan.cap(chosen.cap)
    if chosen.cap_id is not None:
        plan = plan.cap_id(chosen.cap_id, seed=seed)
    return plan


def check_passes(config: RunConfig, text: TrainText) -> None:
    """Refuse steps that go through the plan again where a cap per ID promises that nothing exceeds it.

    Raises:
        ConfigError: they do.
    """
    if config.exposures.cap_id is None or config.schedule.steps is None or not text.plan.total:
        return
    passes = training_rows(text, config).datasets
    if len(passes) > 1:
        # torch types a dataset without a length; these have one.
        once = -(-len(passes[0]) // config.schedule.batch_size)  # type: ignore[arg-type]
        raise ConfigError(
            f"schedule.steps={config.schedule.steps} goes through the plan {len(passes)} times, so that IDs would be "
            f"seen more often than exposures.cap_id={config.exposures.cap_id}; give at most {once} steps, or leave "
            "schedule.steps out"
        )


def exposures_table(config: RunConfig, text: TrainText) -> Table:
    """What is planned of each source, the largest first, and how much of it the run's steps see."""
    table = Table(title="Planned exposures", title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("source", no_wrap=True, overflow="ellipsis", max_width=32)
    for name in ("documents", "IDs", "min", "mean", "max", "tokens", "share", "governed"):
        table.add_column(name, justify="right", no_wrap=True)
    entries = exposures_by_source(text.corpus, text.plan, text.governed)
    for i, entry in enumerate(entries):
        least, mean, most = entry.exposures
        table.add_row(
            Text("(no source)" if entry.source is None else entry.source),
            f"{entry.documents:,}",
            f"{entry.ids:,}",
            f"{least:,}",
            f"{mean:,.2f}",
            f"{most:,}",
            f"{entry.tokens:,}",
            f"{entry.share:.1%}",
            f"{entry.governed:,}",
            end_section=i == len(entries) - 2,
        )
    if config.schedule.steps is not None:
        rows = training_rows(text, config)
        passes = planned_steps(len(rows), config) * config.schedule.batch_size / len(rows) * len(rows.datasets)
        table.caption = f"schedule.steps = {config.schedule.steps}: {passes:.2f} passes over this plan"
    return table


def show(table: Table, *, stderr: bool = False) -> None:
    """Print a table whole, also where the terminal is narrower: figures that are cut off say nothing."""
    Console(stderr=stderr, width=max(Console(stderr=stderr).width, _WIDTH)).print(table)


def as_lines(table: Table) -> list[str]:
    """A table as lines of text, for a log."""
    stream = io.StringIO()
    Console(file=stream, width=_WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Name the key in an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"exposures.{key}: {error}") from error
