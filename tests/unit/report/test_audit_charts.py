import math

import pytest

from memsinks.audit.findings import Curve, Figure
from memsinks.report.audit.charts import colour
from memsinks.report.audit.dots import MOST_MEASURES, dot_charts
from memsinks.report.audit.lines import MOST_POINTS, curve_charts

ORDER = ["own", "off", "third", "fourth"]


def a_figure(**rest):
    usual = {"section": "s", "measure": "m", "condition": "own", "texts": "target", "value": 0.5, "unit": "rate"}
    return Figure(**{**usual, **rest})


def a_curve(**rest):
    usual = {
        "section": "s",
        "measure": "m",
        "condition": "own",
        "texts": "target",
        "x_label": "steps",
        "y_label": "loss",
        "x": (0.0, 1.0, 2.0),
        "y": (3.0, 2.0, 1.0),
    }
    return Curve(**{**usual, **rest})


def test_each_condition_is_once_in_the_legend_and_has_a_line_of_its_own():
    figures = [
        a_figure(measure=measure, condition=condition, texts=texts)
        for measure in ("one", "two")
        for condition in ("own", "off")
        for texts in ("target", "unseen")
    ]
    (chart,) = dot_charts(figures, ORDER)
    traces = chart.figure["data"]
    assert [(t["name"], t["showlegend"]) for t in traces] == [
        ("own", True), ("own", False), ("off", True), ("off", False),
    ]  # fmt: skip
    assert traces[0]["y"] == traces[1]["y"] != traces[2]["y"]
    for trace in traces:
        assert [round(y) for y in trace["y"]] == [0, 1], "within the band of its measure"
    assert [a["text"] for a in chart.figure["layout"]["annotations"]] == ["<b>one</b>", "<b>two</b>"]
    assert {t["marker"]["symbol"].endswith("-open") for t in traces} == {True, False}


def test_bars_reach_from_the_value_to_the_ends_of_its_interval():
    (chart,) = dot_charts([a_figure(low=0.25, high=0.875), a_figure(measure="n")], ORDER)
    assert chart.title == "Rates, with 95 % intervals"
    bars = chart.figure["data"][0]["error_x"]
    assert (bars["arrayminus"], bars["array"]) == ([0.25, None], [0.375, None])


def test_measures_that_decide_are_drawn_first():
    figures = [a_figure(measure=f"m{i}", question="extractable" if i > 8 else "") for i in range(12)]
    (chart,) = dot_charts(figures, ORDER)
    drawn = [a["text"] for a in chart.figure["layout"]["annotations"]]
    assert len(drawn) == MOST_MEASURES
    assert drawn[-3:] == ["<b>m9</b>", "<b>m10</b>", "<b>m11</b>"]
    assert "Only in the table: 4 more." in chart.note


@pytest.mark.parametrize(
    ("chances", "lines"), [((0.5, 0.5), 1), ((0.5, 0.1), 0), ((0.5, None), 0), ((None, None), 0), ((0.0, 0.0), 1)]
)
def test_chance_is_a_line_only_if_it_is_the_same_for_all(chances, lines):
    figures = [a_figure(measure=f"m{i}", chance=chance, unit="AUC") for i, chance in enumerate(chances)]
    (chart,) = dot_charts(figures, ORDER)
    dotted = [s for s in chart.figure["layout"]["shapes"] if s["line"]["dash"] == "dot"]
    assert len(dotted) == lines
    assert ("Dotted line" in chart.note) == bool(lines)


def test_other_texts_and_values_that_are_missing_are_left_to_the_table():
    assert dot_charts([a_figure(texts="survivor: x"), a_figure(value=None), a_figure(value=math.nan)], ORDER) == []


def test_a_single_measure_that_decides_nothing_is_drawn_only_if_there_is_no_other():
    alone, deciding = a_figure(unit="tokens"), a_figure(question="extractable")
    assert [c.title for c in dot_charts([alone], ORDER)] == ["Tokens"]
    assert [c.title for c in dot_charts([alone, deciding], ORDER)] == ["Rates"]


@pytest.mark.parametrize(
    ("label", "x", "kind"),
    [
        ("steps", (1.0, 10.0, 99.0), None),
        ("steps", (1.0, 10.0, 100.0), "log"),
        ("steps", (0.0, 10.0, 10000.0), None),
        ("false positives (log)", (0.0, 0.5, 1.0), "log"),
        ("logits", (1.0, 2.0, 3.0), None),
        ("log10 samples", (1.0, 2.0, 3.0), None),
    ],
)
def test_logarithmic_axes(label, x, kind):
    (chart,) = curve_charts([a_curve(x_label=label, x=x)], ORDER)
    assert chart.figure["layout"]["xaxis"].get("type") == kind


def test_a_long_curve_is_drawn_whole_and_told_in_part():
    points = tuple(float(i) for i in range(4 * MOST_POINTS))
    (chart,) = curve_charts([a_curve(x=points, y=points)], ORDER)
    assert len(chart.figure["data"][0]["x"]) == len(points)
    assert (chart.tables[0].every, len(chart.tables[0].points)) == (4, MOST_POINTS)


def test_a_band_goes_there_above_and_back_below():
    (chart,) = curve_charts([a_curve(low=(2.0, 1.0, 0.0), high=(4.0, 3.0, 2.0))], ORDER)
    band = chart.figure["data"][0]
    assert band["x"] == [0.0, 1.0, 2.0, 2.0, 1.0, 0.0]
    assert band["y"] == [4.0, 3.0, 2.0, 0.0, 1.0, 2.0]


def test_conditions_keep_their_colour_and_others_get_one():
    assert colour("own", ORDER) == colour("own", ["own"])
    assert len({colour(name, ORDER) for name in ORDER}) == len(ORDER)
