"""The learning curves, as plotly figures (plain dicts) and as the tables that stand in for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from memsinks.report.format import count, number
from memsinks.report.schema import Results

COLOURS = {
    "standard": "#d55e00",
    "deduplicated": "#0072b2",
    "deduplicated_equal_steps": "#56b4e9",
    "sinks_own": "#cc79a7",
    "sinks_off": "#009e73",
}
"""From the Okabe-Ito palette, told apart with any colour vision; dashes and markers differ too."""

DASHES = {
    "standard": ("solid", "circle"),
    "deduplicated": ("dash", "square"),
    "deduplicated_equal_steps": ("dot", "diamond"),
    "sinks_own": ("dashdot", "triangle-up"),
    "sinks_off": ("longdash", "x"),
}

NAMES = {
    "standard": "Standard",
    "deduplicated": "Deduplicated",
    "deduplicated_equal_steps": "Deduplicated, equal steps",
    "sinks_own": "Sinks on",
    "sinks_off": "Sinks off",
}

Text = Literal["repeated", "validation"]


@dataclass(frozen=True)
class Curve:
    """One line: loss in nats per token after each of ``steps``."""

    key: str
    name: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]

    @property
    def points(self) -> list[tuple[int, float]]:
        """``(step, loss)`` pairs."""
        return list(zip(self.steps, self.losses, strict=True))


@dataclass(frozen=True)
class Chart:
    """One plot.

    Attributes:
        key: its HTML id.
        title: what it shows.
        summary: the same in a sentence, for those who cannot see it.
        curves: its lines.
        figure: the plotly figure, JSON-ready.
    """

    key: str
    title: str
    summary: str
    curves: tuple[Curve, ...]
    figure: dict[str, Any]


def charts(results: Results) -> list[Chart]:
    """Loss on repeated text and on validation text against optimiser steps."""
    repeated, validation = _curves(results, "repeated"), _curves(results, "validation")
    return [
        _chart("curve-repeated", "Loss on the repeated stories", repeated),
        _chart("curve-validation", "Loss on validation stories", validation),
    ]


def _curves(results: Results, text: Text) -> tuple[Curve, ...]:
    arms = results["arms"]
    plain = {
        "standard": arms["standard"]["curve"],
        "deduplicated": arms["deduplicated"]["curve"],
        "deduplicated_equal_steps": arms["deduplicated_equal_steps"]["curve"],
    }
    curves = [_curve(key, [(p["step"], p[text]) for p in points]) for key, points in plain.items()]
    sinks = arms["sinks"]["curve"]
    if text == "repeated":
        curves.append(_curve("sinks_own", [(p["step"], p["repeated_own"]) for p in sinks]))
        curves.append(_curve("sinks_off", [(p["step"], p["repeated_off"]) for p in sinks]))
    else:
        curves.append(_curve("sinks_off", [(p["step"], p["validation_off"]) for p in sinks]))
    return tuple(c for c in curves if c.steps)


def _curve(key: str, points: Sequence[tuple[int, float]]) -> Curve:
    return Curve(key, NAMES[key], tuple(s for s, _ in points), tuple(v for _, v in points))


def _chart(key: str, title: str, curves: tuple[Curve, ...]) -> Chart:
    ends = "; ".join(
        f"{c.name} from {number(c.losses[0])} to {number(c.losses[-1])} in {count(c.steps[-1])} steps" for c in curves
    )
    summary = f"Line chart. {title}, in nats per token, against optimiser steps. {ends}."
    layout = {
        "xaxis": {"title": {"text": "optimiser steps"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "loss, nats per token"}, "rangemode": "tozero"},
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "legend": {"orientation": "h", "y": -0.22, "x": 0},
        "hovermode": "x unified",
        "height": 380,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    return Chart(key, title, summary, curves, {"data": [_trace(c) for c in curves], "layout": layout})


def _trace(curve: Curve) -> dict[str, Any]:
    dash, symbol = DASHES[curve.key]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": curve.name,
        "x": list(curve.steps),
        # JSON has no NaN; plotly leaves a gap at null.
        "y": [None if math.isnan(v) else v for v in curve.losses],
        "line": {"color": COLOURS[curve.key], "width": 2, "dash": dash},
        "marker": {"symbol": symbol, "size": 6},
        "hovertemplate": "%{y:.3f}",
    }
