"""Figures of experiments: what can be read off the drawn axes."""

import pytest

pytest.importorskip("matplotlib")

from memsinks.report import plots
from memsinks.report.plots import Panel, Series, write_panels


def panel(count):
    series = [Series(label=f"method {i}", x=[i], y=[i * 0.1]) for i in range(count)]
    return Panel(title="t", x_label="x", y_label="y", series=series)


@pytest.fixture
def drawn(monkeypatch):
    """The figure that was saved."""
    found = []
    save = plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda figure, *rest: (found.append(figure), save(figure, *rest))[1])
    return found


@pytest.mark.parametrize(("counts", "beside"), [((3, 3), False), ((9, 9), True), ((9, 8), False)])
def test_a_long_legend_that_serves_all_panels_stands_beside_them(tmp_path, drawn, counts, beside):
    file = write_panels([panel(n) for n in counts], tmp_path / "figure.png")
    assert file.stat().st_size > 5000
    (figure,) = drawn
    inside = [axes.get_legend() for axes in figure.axes]
    if beside:
        assert inside == [None, None]
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [f"method {i}" for i in range(9)]
    else:
        assert not figure.legends
        assert [len(legend.get_texts()) for legend in inside] == list(counts)


def test_lines_without_marks_on_an_axis_that_counts(tmp_path, drawn):
    series = [Series(label="expected", x=[0, 1, 2, 3], y=[0, 0.3, 0.5, 0.6], marked=False)]
    write_panels([Panel(title="t", x_label="removed", y_label="y", series=series, whole=True)], tmp_path / "figure.png")
    (axes,) = drawn[0].axes
    assert axes.lines[0].get_marker() == "None"
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_the_intervals_of_a_line_without_marks_are_a_band(tmp_path, drawn):
    series = [Series(label="loss", x=[0, 1, 2], y=[3, 2, 1], low=[2.5, 1.5, 0.5], high=[3.5, 2.5, 1.5], marked=False)]
    write_panels([Panel(title="t", x_label="step", y_label="y", series=series)], tmp_path / "figure.png")
    (axes,) = drawn[0].axes
    (band,) = axes.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices} >= {(0, 2.5), (0, 3.5), (2, 0.5), (2, 1.5)}
    assert not axes.containers[0].has_yerr


def looks(figure):
    return [{b.get_label(): (b[0].get_color(), b[0].get_marker()) for b in axes.containers} for axes in figure.axes]


def test_a_method_looks_the_same_in_every_panel(tmp_path, drawn):
    """Also where another that stands before it is missing."""
    whole, part = panel(4), panel(4)
    part = Panel(title="t", x_label="x", y_label="y", series=[*part.series[1:], Series(label="new", x=[0], y=[0])])
    write_panels([whole, part], tmp_path / "figure.png")
    first, second = looks(drawn[0])
    assert len(set(first.values())) == 4
    assert len(set((first | second).values())) == 5
    assert {name: second[name] for name in first if name in second} == {n: first[n] for n in first if n in second}


def test_panels_with_nothing_in_common_begin_with_the_same_colour(tmp_path, drawn):
    panels = [
        Panel(title="t", x_label="x", y_label="y", series=[Series(label=name, x=[0], y=[0])]) for name in ("a", "b")
    ]
    write_panels(panels, tmp_path / "figure.png")
    first, second = looks(drawn[0])
    assert first["a"] == second["b"]


@pytest.mark.parametrize("fit_points", [True, False])
def test_axes_that_end_at_their_points_cut_long_intervals(tmp_path, drawn, fit_points):
    series = [Series(label="two seeds", x=[1, 2], y=[0.2, 0.4], low=[-9, 0], high=[9, 1], x_low=[-5, 1], x_high=[5, 3])]
    chosen = Panel(title="t", x_label="x", y_label="y", series=series, lines={"never seen": 1}, fit_points=fit_points)
    write_panels([chosen], tmp_path / "figure.png")
    (axes,) = drawn[0].axes
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 1 < 2 < right
    assert bottom < 0.2 < 1 < top
    assert (left > 0 and right < 3) == fit_points
    assert (bottom > 0 and top < 2) == fit_points
