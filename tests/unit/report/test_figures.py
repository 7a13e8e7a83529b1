"""Figures hold what the entries say."""

import builtins
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from memsinks.errors import InputError, MemsinksError
from memsinks.report.figures import (
    FIGURES,
    PALETTE,
    exposures_figure,
    losses_figure,
    optimizer_figure,
    throughput_figure,
    write_figures,
)


def entries(shift=0.0, mfu=True):
    found = [{"step": 0, "evaluation": {"repeated": {"own": 6.0, "off": 6.1}, "validation": {"own": 6.2, "off": 6.3}}}]
    for step in (10, 20, 30):
        figures = {
            "step": step, "loss": 100 / step + shift, "grad_norm": step / 10, "learning_rate": step * 1e-4,
            "tokens_per_second": 1000.0 * step, "padding_share": 0.1, "waiting_share": 0.01 * step,
        }  # fmt: skip
        found.append(figures | ({"mfu": step / 100} if mfu else {}))
    last = {"repeated": {"own": 1.0 + shift, "off": 4.0}, "validation": {"own": 4.1, "off": 4.2}}
    found.append({"step": 30, "evaluation": last})
    found.append({"step": 20, "exposures": {"1": 999}})
    found.append({"step": 30, "exposures": {"1": 40, "2-3": 0, "4-7": 3}})
    return found


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_losses_of_one_run():
    (axes,) = losses_figure({"mine": entries()}).axes
    assert lines(axes) == {
        "training": ([10, 20, 30], [10.0, 5.0, 100 / 30]),
        "repeated, sinks own": ([0, 30], [6.0, 1.0]),
        "repeated, sinks off": ([0, 30], [6.1, 4.0]),
        "validation, sinks own": ([0, 30], [6.2, 4.1]),
        "validation, sinks off": ([0, 30], [6.3, 4.2]),
    }
    assert axes.get_ylabel() == "nats per token"
    assert axes.get_xlabel() == "optimiser step"
    assert "mine" in axes.get_title(loc="left")
    by_label = {line.get_label(): line for line in axes.lines}
    own, off = by_label["repeated, sinks own"], by_label["repeated, sinks off"]
    assert own.get_color() == off.get_color() != by_label["validation, sinks own"].get_color()
    assert own.get_linestyle() != off.get_linestyle()


def test_labels_stand_at_the_ends_and_apart():
    figure = losses_figure({"mine": entries()})
    (axes,) = figure.axes
    texts = {text.get_text(): text for text in axes.texts}
    assert set(texts) == set(lines(axes))
    low, high = axes.get_ylim()
    places = sorted(text.get_position()[1] for text in texts.values())
    assert min(b - a for a, b in pairwise(places)) >= 0.054 * (high - low)
    assert texts["repeated, sinks own"].get_position()[1] == 1.0
    order = sorted(texts, key=lambda name: texts[name].get_position()[1])
    assert order == sorted(texts, key=lambda name: lines(axes)[name][1][-1])
    for line in axes.lines:
        assert texts[line.get_label()].get_color() == line.get_color()


def test_losses_of_two_runs():
    panels = losses_figure({"a": entries(), "b": entries(0.5)}).axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        "Training loss", "Loss of repeated text", "Loss of validation text",
    ]  # fmt: skip
    assert lines(panels[0])["b"] == ([10, 20, 30], [10.5, 5.5, 100 / 30 + 0.5])
    assert lines(panels[1])["a, sinks own"][1] == [6.0, 1.0]
    assert lines(panels[1])["b, sinks own"][1] == [6.0, 1.5]
    assert set(lines(panels[2])) == {"a, sinks own", "a, sinks off", "b, sinks own", "b, sinks off"}
    assert {t.get_text() for t in panels[1].get_legend().get_texts()} == set(lines(panels[1]))


def test_a_run_without_sinks_is_named_without_a_mode():
    plain = [{"step": 0, "evaluation": {"validation": {"plain": 3.0}}}, {"step": 1, "loss": 2.0}]
    (axes,) = losses_figure({"plain": plain}).axes
    assert set(lines(axes)) == {"training", "validation"}


def test_throughput():
    panels = throughput_figure({"mine": entries()}).axes
    shown = {axes.get_title(loc="left"): (axes.get_ylabel(), axes.lines[0].get_ydata()) for axes in panels}
    assert {title: (unit, list(values)) for title, (unit, values) in shown.items()} == {
        "Training speed": ("tokens per second", [10_000, 20_000, 30_000]),
        "Model FLOPs utilisation (MFU)": ("% of the peak", pytest.approx([10, 20, 30])),
        "Time waiting for data": ("% of the time", pytest.approx([10, 20, 30])),
        "Padding": ("% of token slots", pytest.approx([10, 10, 10])),
    }


def test_without_mfu_there_is_no_panel_for_it_unless_another_run_has_it():
    assert len(throughput_figure({"a": entries(mfu=False)}).axes) == 3
    panels = throughput_figure({"a": entries(mfu=False), "b": entries()}).axes
    assert [list(lines(axes)) for axes in panels] == [["a", "b"], ["b"], ["a", "b"], ["a", "b"]]


def test_a_value_that_was_not_finite_is_a_gap():
    run = [{"step": 1, "grad_norm": 2.0}, {"step": 2, "grad_norm": None}, {"step": 3, "grad_norm": 4.0}]
    (axes,) = optimizer_figure({"a": run}).axes
    steps, values = lines(axes)["a"]
    assert steps == [1, 2, 3]
    assert values[1] != values[1]
    assert values[::2] == [2.0, 4.0]


def test_exposures_are_those_of_the_last_count():
    (axes,) = exposures_figure({"mine": entries()}).axes
    assert [bar.get_width() for bar in axes.patches] == [40, 0, 3]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "2–3", "4–7"]
    assert [text.get_text() for text in axes.texts] == ["40", "0", "3"]
    assert "after step 30" in axes.get_title(loc="left")


def test_exposures_of_runs_with_other_bins():
    other = [{"step": 5, "exposures": {"1": 7, "8-15": 2}}]
    (axes,) = exposures_figure({"a": entries(), "b": other}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1", "2–3", "4–7", "8–15"]
    assert [[bar.get_width() for bar in bars] for bars in axes.containers] == [[40, 0, 3, 0], [7, 0, 0, 2]]


@pytest.fixture(scope="module")
def drawn_elsewhere(tmp_path_factory):
    """The figures as another process draws them, whose user has a style of his own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "matplotlibrc").write_text("xtick.labelsize: 20\naxes.facecolor: yellow\n")
    script = (
        "import sys; from pathlib import Path\n"
        "import memsinks.report.figures\n"
        "assert 'matplotlib' not in sys.modules, 'imported before anything is drawn'\n"
        "sys.path.insert(0, sys.argv[1]); import test_figures as t\n"
        "for kind in ('png', 'svg'): t.write_figures({'mine': t.entries()}, Path(sys.argv[2]), kind)\n"
    )
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", script, here, str(folder)], check=True, cwd=folder)
    return folder


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_entries_give_the_same_bytes(tmp_path, drawn_elsewhere, kind):
    written = write_figures({"mine": entries()}, tmp_path, kind)
    assert [file.name for file in written] == [f"{name}.{kind}" for name in FIGURES]
    for file in written:
        content = file.read_bytes()
        assert content == (drawn_elsewhere / file.name).read_bytes()
        assert b"Matplotlib v" not in content
        assert b"<dc:date>" not in content


def test_long_names_leave_room_for_the_lines(tmp_path):
    # matplotlib warns, which fails a test, where labels leave none.
    runs = {"a" * 70 + str(i): entries(i / 10) for i in range(len(PALETTE))}
    assert len(write_figures(runs, tmp_path)) == len(FIGURES)


def test_only_figures_with_data_are_written(tmp_path):
    written = write_figures({"a": [{"step": 1, "loss": 2.0}]}, tmp_path)
    assert [file.name for file in written] == ["losses.png"]
    assert [file.name for file in tmp_path.iterdir()] == ["losses.png"]


def test_what_cannot_be_drawn_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="nothing was logged"):
        write_figures({"a": [{"step": 1}]}, tmp_path / "out")
    with pytest.raises(InputError, match=f"at most {len(PALETTE)}"):
        write_figures({str(i): entries() for i in range(len(PALETTE) + 1)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_figures({"a": entries()}, tmp_path / "file")


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError("no", name="matplotlib")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MemsinksError, match=r'matplotlib.*pip install "memsinks\[report\]"'):
        write_figures({"a": entries()}, tmp_path)
