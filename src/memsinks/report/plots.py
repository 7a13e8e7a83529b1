"""Figures of experiments: curves along a sweep, points on a plane, bars, each with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memsinks.report.drawing import GREY, PALETTE, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*<>"
MOST_LEVEL_TICKS = 4
"""More names than these are turned, so that they do not overlap."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
FIT_MARGIN = 0.06
"""Of an axis that ends at its points, as a share of their range."""
PALE = 0.25
"""Opacity of intervals that stand behind a crowd of points, or behind a line."""
MOST_INSIDE = 6
"""Entries of a legend that fit beside points."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one arm or method.

    Attributes:
        label: in the legend.
        x, y: coordinates.
        low, high: interval of each y, or empty.
        x_low, x_high: interval of each x, or empty.
        joined: draw a line through the points, in their order.
        marked: draw the points; the intervals of y are a band behind a line without.
        group: series of one group share a colour.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    x_low: Sequence[float | None] = ()
    x_high: Sequence[float | None] = ()
    joined: bool = True
    marked: bool = True
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        title, x_label, y_label: words.
        series: what is drawn.
        lines: horizontal reference lines, label to height.
        logarithmic: a logarithmic horizontal axis.
        whole: the horizontal axis counts.
        ticks: names of the places 0, 1, ... on the horizontal axis, where they are no numbers.
        fit_points: axes end at the points and lines, and not at the ends of their intervals, which are pale.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    lines: Mapping[str, float] = field(default_factory=dict)
    logarithmic: bool = False
    whole: bool = False
    ticks: Sequence[str] = ()
    fit_points: bool = False


def write_panels(panels: Sequence[Panel], file: Path) -> Path:
    """Draw panels side by side; the ending of ``file`` is png or svg.

    Raises:
        MemsinksError: matplotlib is not installed.
    """
    with styled():
        from matplotlib.figure import Figure

        shared = _shared_legend(panels)
        figure = Figure(figsize=(5.4 * len(panels) + (2 if shared else 0), 4.6))
        groups = _orders([[_group(series) for series in panel.series] for panel in panels])
        labels = _orders([[series.label for series in panel.series] for panel in panels])
        places = figure.subplots(1, len(panels), squeeze=False).flat
        for axes, panel, *orders in zip(places, panels, groups, labels, strict=True):
            _draw(axes, panel, *orders)
            if panel.series and not shared:
                axes.legend(fontsize=8)
        if shared:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        file.parent.mkdir(parents=True, exist_ok=True)
        return save_figure(figure, file, "svg" if file.suffix == ".svg" else "png")


def _shared_legend(panels: Sequence[Panel]) -> bool:
    """Whether one legend beside the panels serves them all: there it hides no point, however long it is."""
    labels = [[series.label for series in panel.series] for panel in panels]
    return len(labels[0]) > MOST_INSIDE and all(other == labels[0] for other in labels)


def _group(series: Series) -> str:
    return series.group or series.label


def _orders(names: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each panel's names in the order of their looks. What several panels show looks the same in all of them; panels
    that have nothing in common each begin with the first look."""
    own = [list(dict.fromkeys(of_panel)) for of_panel in names]
    together = list(dict.fromkeys(chain.from_iterable(own)))
    return [together] * len(own) if len(together) < sum(map(len, own)) else own


def _draw(axes: "Axes", panel: Panel, groups: Sequence[str], labels: Sequence[str]) -> None:
    """Draw a panel; colours go by the place in ``groups``, markers by that in ``labels``."""
    seen: dict[str, int] = {}
    for series in panel.series:
        group = _group(series)
        nth = seen[group] = seen.get(group, -1) + 1
        colour = PALETTE[groups.index(group) % len(PALETTE)]
        style: dict[str, Any] = {
            "color": colour,
            "marker": MARKERS[labels.index(series.label) % len(MARKERS)],
            "markersize": 5,
        }
        bars = _bars(series.y, series.low, series.high)
        if not series.marked:
            style["marker"] = None
            if bars is not None:
                low, high = np.asarray([series.low, series.high], dtype=float)
                axes.fill_between(series.x, low, high, color=colour, alpha=PALE, linewidth=0)
                bars = None
        line = DASHES[(nth + groups.index(group) // len(PALETTE)) % len(DASHES)] if series.joined else "none"
        axes.errorbar(
            series.x,
            series.y,
            yerr=bars,
            xerr=_bars(series.x, series.x_low, series.x_high),
            label=series.label,
            linestyle=line,
            capsize=0 if panel.fit_points else 2,
            elinewidth=1,
            ecolor=(colour, PALE) if panel.fit_points else colour,
            **style,
        )
    for label, height in panel.lines.items():
        axes.axhline(height, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            label, (0.99, height), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8, color=GREY
        )
    if panel.logarithmic:
        axes.set_xscale("log")
    if panel.whole:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.ticks:
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(panel.ticks) > MOST_LEVEL_TICKS else {}
        axes.set_xticks(range(len(panel.ticks)), panel.ticks, **turned)
        axes.margins(x=0.15)
    if panel.fit_points and panel.series:
        axes.set_xlim(*_ends([x for series in panel.series for x in series.x]))
        axes.set_ylim(*_ends([*panel.lines.values(), *(y for series in panel.series for y in series.y)]))
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Both ends of an axis that holds these values, with a margin."""
    margin = FIT_MARGIN * ((max(values) - min(values)) or 1.0)
    return min(values) - margin, max(values) + margin


def _bars(values: Sequence[float], low: Sequence[float | None], high: Sequence[float | None]) -> Any:
    if not low or any(bound is None for bound in (*low, *high)):
        return None
    below = [max(0.0, v - b) for v, b in zip(values, low, strict=True) if b is not None]
    above = [max(0.0, b - v) for v, b in zip(values, high, strict=True) if b is not None]
    return [below, above]
