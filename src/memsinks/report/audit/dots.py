"""Figures as plots: a dot with its interval for each measure and condition."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from memsinks.audit.findings import Figure
from memsinks.report.audit.charts import GREY, SYMBOLS, Chart, clean, colour, layout, safe

MOST_MEASURES = 8


def dot_charts(figures: Iterable[Figure], order: Sequence[str]) -> list[Chart]:
    """A plot for each unit of one section's figures of target and unseen text, with intervals.

    A single measure that decides nothing is left to the table, unless there is no other.

    Args:
        figures: of the section.
        order: names of conditions.
    """
    units: dict[str, list[Figure]] = defaultdict(list)
    for found in figures:
        if found.texts in ("target", "unseen") and found.value is not None and math.isfinite(found.value):
            units[found.unit].append(found)
    return [
        _dots(unit, members, order)
        for unit, members in units.items()
        if len(units) == 1 or len({f.measure for f in members}) > 1 or any(f.question for f in members)
    ]


def _dots(unit: str, figures: list[Figure], order: Sequence[str]) -> Chart:
    measures = _chosen(figures)
    shown = [f for f in figures if f.measure in measures]
    conditions = [name for name in order if any(f.condition == name for f in shown)]
    traces: list[dict[str, Any]] = []
    for name in conditions:
        for texts in ("target", "unseen"):
            members = [f for f in shown if (f.condition, f.texts) == (name, texts)]
            if members:
                # Within the band of a measure, its name has the first line, and each condition one of its own.
                place = (conditions.index(name) + 1.7) / (len(conditions) + 1.7) - 0.5
                y = [measures.index(f.measure) + place for f in members]
                trace = _dot_trace(name, texts, members, y, order)
                # One entry in the legend for both texts.
                trace["showlegend"] = trace["name"] not in {other["name"] for other in traces}
                traces.append(trace)
    left_out = len({f.measure for f in figures}) - len(measures)
    height = 110 + len(measures) * max(50, 14 * (len(conditions) + 2))
    drawn = layout(unit if unit != "rate" else "share", "", height=height)
    drawn["xaxis"] |= {"rate": {"tickformat": ".0%", "range": [-0.03, 1.03]}, "AUC": {"range": [-0.03, 1.03]}}.get(
        unit, {}
    )
    drawn["yaxis"] |= {
        "range": [len(measures) - 0.5, -0.5], "showticklabels": False, "showgrid": False, "zeroline": False,
    }  # fmt: skip
    drawn["annotations"] = [
        {
            "text": f"<b>{safe(measure)}</b>", "showarrow": False, "xref": "paper", "x": 0, "xanchor": "left",
            "y": place - 0.5, "yanchor": "top", "align": "left",
        }
        for place, measure in enumerate(measures)
    ]  # fmt: skip
    drawn["shapes"] = [_line("h", place - 0.5) for place in range(1, len(measures))]
    chances = {f.chance for f in shown}
    chance = chances.pop() if len(chances) == 1 else None
    if chance is not None:
        drawn["shapes"].append(_line("v", chance, width=1.5, dash="dot"))
    bounded = ", with 95 % intervals" if any(f.low is not None for f in shown) else ""
    return Chart(
        title=("Rates" if unit == "rate" else unit[:1].upper() + unit[1:]) + bounded,
        note="Filled: the audited text. Open: text that was never trained."
        + (" Dotted line: chance." if chance is not None else "")
        + (f" Only in the table: {left_out} more." if left_out else ""),
        summary=f"Dot plot of {len(measures)} measures in {unit} under {len(conditions)} conditions{bounded}, filled "
        "for audited text and open for unseen text. The table below holds the same figures.",
        figure={"data": traces, "layout": drawn},
    )


def _chosen(figures: Sequence[Figure]) -> list[str]:
    """Measures to draw: those that decide a question first, as they were measured."""
    all_of = list(dict.fromkeys(f.measure for f in figures))
    decide = {f.measure for f in figures if f.question}
    kept = set(sorted(all_of, key=lambda m: (m not in decide, all_of.index(m)))[:MOST_MEASURES])
    return [measure for measure in all_of if measure in kept]


def _dot_trace(
    name: str, texts: str, figures: Sequence[Figure], y: Sequence[float], order: Sequence[str]
) -> dict[str, Any]:
    symbol = SYMBOLS[order.index(name) % len(SYMBOLS)]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": safe(name),
        "legendgroup": safe(name),
        "x": [f.value for f in figures],
        "y": list(y),
        "text": [safe(f"{f.measure}: {name}, {texts}") for f in figures],
        "marker": {
            "color": colour(name, order),
            "size": 8,
            "symbol": symbol if texts == "target" else f"{symbol}-open",
        },
        "hovertemplate": "%{text}<br>%{x:.4g}<extra></extra>",
    }
    above = [None if f.high is None or f.value is None else f.high - f.value for f in figures]
    below = [None if f.low is None or f.value is None else f.value - f.low for f in figures]
    if any(bound is not None for bound in above):
        trace["error_x"] = {
            "type": "data", "symmetric": False, "array": clean(above), "arrayminus": clean(below), "width": 3,
            "thickness": 1.2, "color": trace["marker"]["color"],
        }  # fmt: skip
    return trace


def _line(direction: str, at: float, *, width: float = 0.5, dash: str = "solid") -> dict[str, Any]:
    """Across the whole plot, horizontal or vertical."""
    along, across = ("y", "x") if direction == "h" else ("x", "y")
    return {
        "type": "line", f"{along}0": at, f"{along}1": at, f"{across}ref": "paper", f"{across}0": 0, f"{across}1": 1,
        "line": {"color": GREY, "width": width, "dash": dash},
    }  # fmt: skip
