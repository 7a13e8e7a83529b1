"""Figures of training runs, from the entries of their ``metrics.jsonl``, with matplotlib.

The same entries give the same bytes: no date, no version and no user's style gets into a file.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memsinks.errors import InputError
from memsinks.report.drawing import GREY, PALETTE, Format, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Entries = Sequence[Mapping[str, Any]]
Runs = Mapping[str, Entries]
"""Name of a run -> its entries, as :func:`memsinks.runs.metrics.read_metrics` gives them."""

LONGEST = 28
DOCUMENTS = {"repeated": "#d55e00", "validation": "#0072b2"}
STYLES: dict[str, Any] = {
    "own": "-",
    "plain": "-",
    "off": (0, (5, 2)),
    "placebo": ":",
    "chosen": "-.",
    "all": (0, (1, 1)),
}


def write_figures(runs: Runs, directory: Path, file_format: Format = "png") -> list[Path]:
    """Write ``losses``, ``throughput``, ``optimizer`` and ``exposures``; those without any data are left out.

    Args:
        runs: one run, or several to compare.
        directory: where to write; figures of the same name are replaced.
        file_format: ``png`` or ``svg``.

    Raises:
        InputError: no run has logged anything yet, or the directory cannot be written.
        MemsinksError: matplotlib is not installed.
    """
    if len(runs) > len(PALETTE):
        raise InputError(f"{len(runs)} runs cannot be told apart in one figure; compare at most {len(PALETTE)}")
    with styled():
        made = {name: figure for name, draw in FIGURES.items() if (figure := draw(runs)) is not None}
        if not made:
            raise InputError(f"{', '.join(runs)}: nothing was logged yet; wait for the first log entry")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return [
                save_figure(figure, directory / f"{name}.{file_format}", file_format) for name, figure in made.items()
            ]
        except OSError as error:
            raise InputError(f"{directory}: cannot be written ({error.strerror or error})") from error


def losses_figure(runs: Runs) -> "Figure | None":
    """Training loss, and the loss of each set of documents in each mode; one panel for a run, one a set for several."""
    sets = list(dict.fromkeys(name for entries in runs.values() for e in entries for name in e.get("evaluation", {})))
    training = {run: _series(entries, "loss") for run, entries in runs.items()}
    if not sets and not any(steps for steps, _ in training.values()):
        return None
    if len(runs) == 1:
        ((run, entries),) = runs.items()
        figure, (axes,) = _panels(1, 1, (8, 4.8))
        _line(axes, *training[run], label="training", color=GREY, linewidth=1.0)
        spare = iter(c for c in PALETTE if c not in DOCUMENTS.values())
        for name in sets:
            colour = DOCUMENTS.get(name) or next(spare, GREY)
            for mode in _modes(entries, name):
                label = _label(name, mode)
                _line(axes, *_evaluation(entries, name, mode), label=label, color=colour, linestyle=STYLES[mode])
        _direct_labels(axes)
        _dress(axes, f"Loss of {run}", "nats per token")
    else:
        figure, panels = _panels(1, 1 + len(sets), (4.6 * (1 + len(sets)), 4.8))
        for colour, (run, entries) in zip(PALETTE, runs.items(), strict=False):
            _line(panels[0], *training[run], label=_label(run), color=colour, linewidth=1.0)
            for axes, name in zip(panels[1:], sets, strict=True):
                for mode in _modes(entries, name):
                    label = _label(run, mode)
                    _line(axes, *_evaluation(entries, name, mode), label=label, color=colour, linestyle=STYLES[mode])
        for axes, title in zip(panels, ["Training loss", *(f"Loss of {name} text" for name in sets)], strict=True):
            _dress(axes, title, "nats per token" if axes is panels[0] else "")
            axes.legend()
    return figure


def throughput_figure(runs: Runs) -> "Figure | None":
    """Tokens a second, the share of the peak that is used, and what is lost to waiting and padding."""
    return _stack(
        runs,
        ("tokens_per_second", 1, "Training speed", "tokens per second"),
        ("mfu", 100, "Model FLOPs utilisation (MFU)", "% of the peak"),
        ("waiting_share", 100, "Time waiting for data", "% of the time"),
        ("padding_share", 100, "Padding", "% of token slots"),
    )


def optimizer_figure(runs: Runs) -> "Figure | None":
    """Learning rate and gradient norm."""
    return _stack(
        runs,
        ("learning_rate", 1, "Learning rate of shared weights", "learning rate"),
        ("grad_norm", 1, "Gradient norm before clipping", "L2 norm"),
    )


def exposures_figure(runs: Runs) -> "Figure | None":
    """How many sequence IDs were exposed how often, at each run's last count."""
    last = {
        run: counted[-1] for run, entries in runs.items() if (counted := [e for e in entries if e.get("exposures")])
    }
    if not last:
        return None
    bins = sorted({name for entry in last.values() for name in entry["exposures"]}, key=lambda b: int(b.split("-")[0]))
    figure, (axes,) = _panels(1, 1, (8, 1.6 + (0.25 + 0.2 * len(last)) * len(bins)))
    height = 0.8 / len(last)
    numbers = [n for entry in last.values() for n in entry["exposures"].values() if n]
    for i, (colour, (run, entry)) in enumerate(zip(PALETTE, last.items(), strict=False)):
        places = [b + (i - (len(last) - 1) / 2) * height for b in range(len(bins))]
        counts = [entry["exposures"].get(name) or 0 for name in bins]
        bars = axes.barh(places, counts, height * 0.92, color=colour, label=f"{_label(run)}, step {entry['step']}")
        axes.bar_label(bars, [f"{c:,.0f}" for c in counts], padding=3, fontsize=9)
    axes.set_yticks(range(len(bins)), [name.replace("-", "–") for name in bins])
    axes.invert_yaxis()
    axes.grid(visible=False)
    unit = "number of sequence IDs"
    if numbers and max(numbers) > 100 * min(numbers):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, 3 * max(numbers))
        unit += " (logarithmic)"
    else:
        axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    title = "How often text was seen"
    if len(last) == 1:
        title += f": {next(iter(last))}, after step {next(iter(last.values()))['step']:,}"
    else:
        axes.legend(loc="lower right")
    _dress(axes, title, "exposures of an ID", unit)
    return figure


FIGURES: dict[str, Callable[[Runs], "Figure | None"]] = {
    "losses": losses_figure,
    "throughput": throughput_figure,
    "optimizer": optimizer_figure,
    "exposures": exposures_figure,
}
"""File name without its ending -> what draws it; None where there is nothing to draw."""


def _stack(runs: Runs, *rows: tuple[str, float, str, str]) -> "Figure | None":
    """A panel under another for each of ``(name in the entries, factor, title, unit)`` that some run has."""
    found = [row for row in rows if any(_series(entries, row[0])[0] for entries in runs.values())]
    if not found:
        return None
    figure, panels = _panels(len(found), 1, (8, 0.6 + 1.9 * len(found)))
    for axes, (name, factor, title, unit) in zip(panels, found, strict=True):
        for colour, (run, entries) in zip(PALETTE, runs.items(), strict=False):
            steps, values = _series(entries, name)
            if steps:
                _line(axes, steps, [factor * v for v in values], label=_label(run), color=colour)
        lowest = min((v for line in axes.lines for v in _drawn(line)), default=0.0)
        axes.yaxis.set_major_formatter("{x:,.6g}")
        axes.set_ylim(bottom=0 if lowest >= 0 else None)
        _dress(axes, title, unit, "optimiser step" if axes is panels[-1] else "")
    if len(runs) > 1:
        handles = {str(line.get_label()): line for axes in panels for line in axes.lines}
        figure.legend(handles=list(handles.values()), loc="outside upper left", ncols=min(len(runs), 3))
    else:
        figure.suptitle(next(iter(runs)), x=0.01, ha="left", fontsize=11, weight="bold")
    return figure


def _series(entries: Entries, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a training figure; a value that was not finite is NaN and leaves a gap."""
    found = [(e["step"], e[name]) for e in entries if name in e]
    return [step for step, _ in found], [float("nan") if value is None else value for _, value in found]


def _evaluation(entries: Entries, documents: str, mode: str) -> tuple[list[int], list[float]]:
    """Steps and losses of a set of documents in a mode."""
    measured = [{"step": e["step"], **e.get("evaluation", {}).get(documents, {})} for e in entries]
    return _series(measured, mode)


def _modes(entries: Entries, documents: str) -> list[str]:
    return list(dict.fromkeys(m for e in entries for m in e.get("evaluation", {}).get(documents, {})))


def _label(name: str, mode: str = "plain") -> str:
    name = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
    return name if mode == "plain" else f"{name}, sinks {mode}"


def _panels(rows: int, columns: int, inches: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=columns == 1, sharey=rows == 1)
    return figure, list(grid.flat)


def _line(axes: "Axes", steps: Sequence[int], values: Sequence[float], **style: Any) -> None:
    # A single point makes no line.
    axes.plot(steps, values, marker="o" if len(steps) == 1 else "", **style)


def _dress(axes: "Axes", title: str, unit: str, below: str = "optimiser step") -> None:
    axes.set_title(title, loc="left")
    axes.set_ylabel(unit)
    axes.set_xlabel(below)
    if axes.lines:
        axes.set_xlim(left=0)
        axes.margins(x=0.02)


def _direct_labels(axes: "Axes") -> None:
    """Name each line at its right end, in its colour, moved apart where ends are close."""
    axes.margins(x=0)
    low, high = axes.get_ylim()
    ends = [(line, values[-1]) for line in axes.lines if (values := _drawn(line))]
    gap = 0.055 * (high - low)
    ends.sort(key=lambda end: end[1])
    # Neighbours that would overlap form a pile around their mean; piles that then overlap become one.
    piles: list[list[float]] = []
    for _, value in ends:
        piles.append([value])
        while len(piles) > 1 and _spread(piles[-1], gap)[0] - _spread(piles[-2], gap)[-1] < gap:
            piles[-2:] = [piles[-2] + piles[-1]]
    places = [place for pile in piles for place in _spread(pile, gap)]
    for place, (line, _) in zip(places, ends, strict=True):
        axes.text(
            1.01, place, str(line.get_label()), color=line.get_color(), va="center", fontsize=9,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    axes.set_ylim(low, high)


def _spread(values: list[float], gap: float) -> list[float]:
    middle = sum(values) / len(values)
    return [middle + (i - (len(values) - 1) / 2) * gap for i in range(len(values))]


def _drawn(line: "Line2D") -> list[float]:
    values = np.asarray(line.get_ydata(), dtype=float)
    return values[np.isfinite(values)].tolist()
