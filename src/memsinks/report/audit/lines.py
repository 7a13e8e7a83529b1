"""Curves as plots, and as the tables that stand in for them."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from memsinks.audit.findings import Curve
from memsinks.report.audit.charts import SYMBOLS, Chart, CurveTable, clean, colour, layout, safe
from memsinks.report.audit.shown import figure

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_POINTS = 40
DECADES = 2


def curve_charts(curves: Iterable[Curve], order: Sequence[str]) -> list[Chart]:
    """A plot for each measure of one section's curves.

    An axis is logarithmic if its label says "log", or if its values are above 0 and span two decades or more.
    """
    measures: dict[str, list[Curve]] = defaultdict(list)
    for curve in curves:
        measures[curve.measure].append(curve)
    return [_lines(measure, members, order) for measure, members in measures.items()]


def _lines(measure: str, curves: Sequence[Curve], order: Sequence[str]) -> Chart:
    first = curves[0]
    texts = list(dict.fromkeys(curve.texts for curve in curves))
    traces = []
    for curve in curves:
        of = colour(curve.condition, order), DASHES[texts.index(curve.texts) % len(DASHES)]
        traces += [*_band(curve, of[0]), _line_trace(curve, *of, order.index(curve.condition))]
    drawn = layout(first.x_label, first.y_label, height=400 + 18 * len(curves))
    for axis, label, values in (
        ("xaxis", first.x_label, [v for c in curves for v in c.x]),
        ("yaxis", first.y_label, [v for c in curves for v in c.y]),
    ):
        if _logarithmic(label, values):
            drawn[axis] |= {"type": "log", "dtick": 1 if _decades(values) >= DECADES else "D2"}
    drawn["yaxis"]["automargin"] = True
    ends = "; ".join(
        f"{c.condition}, {c.texts}: from {figure(c.y[0], '')} to {figure(c.y[-1], '')}" for c in curves if c.y
    )
    return Chart(
        title=measure,
        summary=f"Line chart of {first.y_label} against {first.x_label}. {ends}.",
        figure={"data": traces, "layout": drawn},
        x_label=first.x_label,
        y_label=first.y_label,
        tables=tuple(_points(curve) for curve in curves),
    )


def _logarithmic(label: str, values: Sequence[float]) -> bool:
    return bool(re.search(r"\blog(arithmic)?\b", label, re.IGNORECASE)) or (
        _decades(values) >= DECADES and min(v for v in values if math.isfinite(v)) > 0
    )


def _decades(values: Sequence[float]) -> float:
    """That positive values span."""
    positive = [v for v in values if math.isfinite(v) and v > 0]
    return math.log10(max(positive) / min(positive)) if positive else 0.0


def _line_trace(curve: Curve, colour_of: str, dash: str, number: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(curve.x) <= MOST_POINTS else "lines",
        "name": safe(f"{curve.condition}, {curve.texts}"),
        "x": clean(curve.x),
        "y": clean(curve.y),
        "line": {"color": colour_of, "width": 2, "dash": dash},
        "marker": {"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 6},
        "hovertemplate": "%{y:.4g} at %{x:.4g}<extra>%{fullData.name}</extra>",
    }


def _band(curve: Curve, colour_of: str) -> list[dict[str, Any]]:
    if not curve.low or not curve.high:
        return []
    return [
        {
            "type": "scatter", "mode": "lines", "x": [*clean(curve.x), *clean(reversed(curve.x))],
            "y": [*clean(curve.high), *clean(reversed(curve.low))], "fill": "toself", "fillcolor": f"{colour_of}22",
            "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
        }
    ]  # fmt: skip


def _points(curve: Curve) -> CurveTable:
    every = math.ceil(len(curve.x) / MOST_POINTS) or 1
    bounds = list(zip(curve.low, curve.high, strict=True)) if curve.low and curve.high else [None] * len(curve.x)
    points = [
        (_point(x), _point(y), "" if bound is None else f"[{_point(bound[0])}, {_point(bound[1])}]")
        for x, y, bound in list(zip(curve.x, curve.y, bounds, strict=True))[::every]
    ]
    return CurveTable(name=f"{curve.condition}, {curve.texts}", points=tuple(points), every=every)


def _point(value: float) -> str:
    if not math.isfinite(value):
        return figure(value, "")
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", "−")
