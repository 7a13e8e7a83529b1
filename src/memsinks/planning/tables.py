"""A plan as tables, for a terminal and for Markdown."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from memsinks.planning.allocations import Assessment, Loss
from memsinks.planning.overlap import expected_overlap, fraction_lost, others_on_a_row
from memsinks.planning.plan import RemovalPlan
from memsinks.report.format import MISSING, count, percent
from memsinks.runs.estimate_table import in_words

TERMS = {
    "each": "any governed {one} may ask at any time",
    "likely": "the sources that are expected to ask may ask at any time, others hardly ever",
    "together": "all governed text leaves together, no {one} alone",
}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of text.

    Attributes:
        title: what it shows.
        columns: headings; the first column is set left, the others right.
        rows: cells.
        caption: what its words mean.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def grids(plan: RemovalPlan) -> list[Grid]:
    """All tables of a plan."""
    return [_text(plan), _pool(plan), *_losses(plan), _compared(plan)]


def render(plan: RemovalPlan) -> RenderableType:
    """For a terminal: what must not be overlooked first, in red."""
    parts: list[RenderableType] = []
    if plan.cautions:
        parts.append(_panel([c.message for c in plan.cautions], f"WARNING: {len(plan.cautions)} to read", "bold red"))
    parts += [_rich(grid) for grid in grids(plan)]
    r = plan.recommendation
    panel = Group(
        *(Text(f"• {reason}") for reason in r.reasons),
        Text(""),
        Text("As the run file says." if r.as_in_run else f"In the run file:\n{r.settings.rstrip()}"),
    )
    parts.append(Panel(panel, title=headline(plan), title_align="left", style="green" if r.fits else "bold red"))
    return Group(*parts)


def markdown(plan: RemovalPlan) -> str:
    """The same as Markdown."""
    r = plan.recommendation
    lines = ["# What this run will be able to remove", ""]
    if plan.cautions:
        lines += ["**WARNING**", "", *(f"- **{c.message}**" for c in plan.cautions), ""]
    for grid in grids(plan):
        lines += [f"## {grid.title}", "", "| " + " | ".join(grid.columns) + " |"]
        lines += ["| --- |" + " ---: |" * (len(grid.columns) - 1)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in grid.rows]
        lines += ["", *([grid.caption, ""] if grid.caption else [])]
    lines += [f"## {headline(plan)}", "", *(f"- {reason}" for reason in r.reasons), ""]
    lines += ["As the run file says."] if r.as_in_run else ["```toml", r.settings.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def headline(plan: RemovalPlan) -> str:
    """The recommendation in a line."""
    r = plan.recommendation
    return f"Recommended: {r.allocation}" if r.fits else f"Nothing fits; the least that would: {r.allocation}"


def size(value: float) -> str:
    """Bytes, in units of 1000."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e3:.3g} kB"


def _text(plan: RemovalPlan) -> Grid:
    text, units = plan.text, plan.units
    named = [source for source in text.sources.values() if len(source.ids)]
    rows = [
        ("documents that the run trains on", count(text.planned_documents)),
        ("governed: train with sinks on, can be removed", count(text.documents)),
        ("governed sequence IDs", count(len(text))),
        ("governed sources, of all that the run trains on", f"{count(len(named))} of {count(len(text.sources))}"),
        ("planned exposures of a governed ID", _spread(text.exposures)),
        ("tokens of a governed ID, copies once", _spread(text.tokens)),
        ("what one request removes", "a source" if units.kind == "source" else "an ID"),
        ("deletion terms", TERMS[plan.question.terms].format(one="source" if units.kind == "source" else "ID")),
        ("sources that are expected to ask", ", ".join(plan.likely) or "none named"),
        ("fraction of its sinks that a survivor may lose", percent(plan.question.collateral)),
    ]
    return Grid(title="The text", columns=("", "median (least to most)"), rows=tuple(rows))


def _pool(plan: RemovalPlan) -> Grid:
    run, text = plan.of_run, plan.text
    config, candidate = run.candidate.config, run.candidate
    pool, active, parameters = int(config.pool), int(config.active), run.cost.parameters
    each = parameters / pool * active
    rows = [
        ("allocation", candidate.name),
        ("sinks in a layer", f"{count(pool)}, in {count(plan.layers)} layers"),
        ("sinks that one ID switches on in a layer", f"{count(active)} ({percent(active / pool)})"),
    ]
    sharing = len(text) - len(candidate.owners)
    if len(candidate.owners):
        rows.append(("IDs that own their sinks", count(len(candidate.owners))))
    if sharing:
        shared = candidate.shared_rows
        others = others_on_a_row(shared, active, sharing - 1)
        rows += [
            ("IDs that share sinks", count(sharing)),
            ("sinks of a layer that two of them share, expected", f"{expected_overlap(shared, active):.3g}"),
            ("other IDs that use one of an ID's sinks, expected", f"{others:.3g}"),
            ("shared sinks that all of them cover", percent(fraction_lost(shared, active, sharing))),
            ("an ID's sinks that no other ID uses", percent(1 - fraction_lost(shared, active, sharing - 1))),
        ]
    rows += [
        ("parameters of all sinks", in_words(parameters)),
        ("parameters that one ID switches on", in_words(each)),
        ("… for each of its tokens", _spread(each / np.maximum(text.tokens, 1))),
        ("parameters of all sinks for each governed token", f"{parameters / max(1, int(text.tokens.sum())):.3g}"),
    ]
    return Grid(title="The run file's sinks", columns=("", "median (least to most)"), rows=tuple(rows))


def _losses(plan: RemovalPlan) -> list[Grid]:
    run = plan.of_run
    rows: list[tuple[str, ...]] = [_loss_row(loss) for loss in run.losses]
    if run.likely is not None:
        likely = run.likely
        cells = (_hundredths(likely.expected), MISSING, _hundredths(likely.mean), MISSING, _hundredths(likely.worst))
        rows.append((f"expected to ask ({count(likely.ids)} IDs)", *cells))
    if not rows:
        return []
    draws = max((loss.simulated.draws for loss in run.losses if loss.simulated), default=0)
    bound = ", an upper bound" if plan.units.shared else ""
    spread = " sd: of one survivor, exact." if any(loss.deviation is not None for loss in run.losses) else ""
    columns: tuple[str, ...] = (
        f"{plan.units.name} removed, of {count(len(plan.units))}",
        "expected",
        "sd",
        "simulated [95 %]",
        "95 % of survivors",
        "worst",
    )
    caption = (
        f"Expected: the mean of 1 - (1 - active/pool)^IDs{bound}.{spread} Simulated: {draws} random choices of "
        f"{plan.units.name}, with the sinks that their IDs do select: the mean, its interval over choices, survivors."
    )
    whose = " that shares them" if run.candidate.name == "hybrid" else ""
    if all(row[2] == MISSING for row in rows):
        columns, rows = columns[:2] + columns[3:], [row[:2] + row[3:] for row in rows]
    return [
        Grid(
            title=f"The run file: what a survivor{whose} loses, in % of its sinks",
            columns=columns,
            rows=tuple(rows),
            caption=caption if draws else "No two IDs share a sink, so no survivor loses any.",
        )
    ]


def _loss_row(loss: Loss) -> tuple[str, ...]:
    deviation = MISSING if loss.deviation is None else _hundredths(loss.deviation)
    s = loss.simulated
    cells = (MISSING, MISSING, MISSING)
    if s is not None:
        cells = (
            f"{_hundredths(s.mean)} [{_hundredths(s.low)}, {_hundredths(s.high)}]",
            f"{_hundredths(s.least)} to {_hundredths(s.most)}",
            _hundredths(s.worst),
        )
    return (count(loss.removed), _hundredths(loss.expected), deviation, *cells)


def _compared(plan: RemovalPlan) -> Grid:
    columns = tuple("run file" if a.candidate.of_run else "instead" for a in plan.assessments)
    names = tuple(a.candidate.name for a in plan.assessments)

    def row(label: str, cells: Iterable[str], plain: str = MISSING) -> tuple[str, ...]:
        return (label, plain, *cells)

    every = plan.assessments
    rows = [
        row("", columns),
        row("sinks in a layer", (count(int(a.candidate.config.pool)) for a in every)),
        row("IDs that own theirs", (count(len(a.candidate.owners)) for a in every)),
    ]
    numbers = [loss.removed for loss in every[0].losses]
    rows += [
        row(f"lost, {plan.units.some(n)} removed", (percent(a.losses[i].expected) for a in every))
        for i, n in enumerate(numbers)
    ]
    if any(a.likely for a in every):
        rows.append(row("lost, those expected to ask removed", (_lost_to_likely(a) for a in every)))
    limit = plan.question.collateral
    rows += [
        row(f"keeps to {percent(limit)} under these terms", ("yes" if a.within else "NO" for a in every)),
        row(f"fits {count(plan.max_pool)} sinks a layer", (_fits(a, plan.max_pool) for a in every)),
        row("parameters of sinks", (in_words(a.cost.parameters) for a in every), "0"),
        row(
            "FLOPs a token, sinks, forward",
            (in_words(a.cost.sink_flops) for a in every),
            in_words(plan.plain.sink_flops),
        ),
        row("FLOPs a token, training", (in_words(a.cost.flops) for a in every), in_words(plan.plain.flops)),
        row("sinks: weights and AdamW state", (size(a.cost.sink_state) for a in every), "0"),
        row("memory of a device, fp32", (size(a.cost.fp32) for a in every), size(plan.plain.fp32)),
        row("memory of a device, bf16", (size(a.cost.bf16) for a in every), size(plan.plain.bf16)),
    ]
    return Grid(
        title="Allocations compared",
        columns=("", "no sinks", *names),
        rows=tuple(rows),
        caption="Lost: the expected fraction of a survivor's sinks, of those who share; owners lose nothing. Memory: "
        "the peak of a training step, estimated; under bf16 weights are fp32 and products bf16.",
    )


def _lost_to_likely(assessed: Assessment) -> str:
    return percent(0.0 if assessed.likely is None else assessed.likely.expected)


def _fits(assessed: Assessment, max_pool: int) -> str:
    return "yes" if assessed.fits else f"NO, {int(assessed.candidate.config.pool) / max_pool:.3g} times"


def _spread(values: np.ndarray) -> str:
    middle, least, most = float(np.median(values)), float(values.min()), float(values.max())
    if least == most:
        return _short(least)
    return f"{_short(middle)} ({_short(least)} to {_short(most)})"


def _hundredths(value: float) -> str:
    return f"{100 * value:.1f}"


def _short(value: float) -> str:
    return count(round(value)) if value >= 100 or value == round(value) else f"{value:.3g}"


def _panel(messages: list[str], title: str, style: str) -> Panel:
    return Panel(Text("\n".join(f"• {message}" for message in messages)), title=title, title_align="left", style=style)


def _rich(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", title_style="bold", caption=grid.caption or None)
    table.caption_justify = "left"
    table.show_header = any(grid.columns) and grid.columns[1] != "median (least to most)"
    for number, column in enumerate(grid.columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in grid.rows:
        table.add_row(*map(Text, row))
    return table
