"""What plots of an audit have in common: plotly figures (plain dicts) with words and tables that stand in for them."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

GREY = "#808088"
COLOURS = {
    "own": "#c0569b",
    "off": "#00895f",
    "placebo": "#a87b00",
    "random": "#2b8fc2",
    "removed": "#3b7dd8",
    "standard": "#d55e00",
    "reference": GREY,
    "model": "#d55e00",
}
"""Each at least 3 to 1 on the page's light and dark ground; symbols and dashes differ too."""
OTHER_COLOURS = ("#8a6fd1", "#5c8a00", "#c25450", "#008a8a")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star", "hexagon", "bowtie")


@dataclass(frozen=True, kw_only=True)
class CurveTable:
    """Points of a curve as they are written; ``every``: each how many-th point is shown."""

    name: str
    points: tuple[tuple[str, str, str], ...]
    every: int


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One plot.

    Attributes:
        title: what it shows.
        note: how to read it.
        summary: the same in a sentence, for those who cannot see it.
        x_label, y_label: of curves.
        figure: the plotly figure, JSON-ready.
        tables: of its curves; empty where another table holds the same.
    """

    title: str
    summary: str
    figure: dict[str, Any]
    note: str = ""
    x_label: str = ""
    y_label: str = ""
    tables: tuple[CurveTable, ...] = ()


def colour(condition: str, order: Sequence[str]) -> str:
    """Of a condition, the same in all plots of a page."""
    others = [name for name in order if name not in COLOURS]
    return COLOURS.get(condition) or OTHER_COLOURS[others.index(condition) % len(OTHER_COLOURS)]


def layout(x_label: str, y_label: str, *, height: int) -> dict[str, Any]:
    """Of every plot; words are escaped here."""
    return {
        "xaxis": {"title": {"text": safe(x_label)}},
        "yaxis": {"title": {"text": safe(y_label)}},
        "margin": {"l": 8, "r": 12, "t": 12, "b": 48},
        "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def clean(values: Iterable[float | None]) -> list[float | None]:
    """Values as JSON has them, which has no NaN; plotly leaves a gap at null."""
    return [None if v is None or not math.isfinite(v) else v for v in values]


def safe(text: str) -> str:
    """Text for plotly, which reads some HTML in its words, links among them."""
    return html.escape(text, quote=False)
