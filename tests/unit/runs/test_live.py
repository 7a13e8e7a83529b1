"""What a person sees of a run: on a terminal, in a pipe, in run.log."""

import io
import re
from datetime import datetime, timedelta

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState

from memsinks.runs.following import moment, span
from memsinks.runs.live import BAR_WIDTH, LiveView, RunLog, bar

START = datetime(2026, 5, 1, 23, 0)

TRAINING = {
    "loss": 3.21, "grad_norm": 0.5, "learning_rate": 2e-3, "tokens": 9000, "tokens_per_second": 12345.6, "mfu": 0.314,
    "padding_share": 0.12, "waiting_share": 0.004, "elapsed_seconds": 130.0, "skipped_steps": 0, "epoch": 0.1,
}  # fmt: skip
FIRST = {"eval_repeated_own": 5.0, "eval_repeated_off": 6.0, "eval_validation_own": 5.5, "eval_validation_off": 5.4}
SECOND = {"eval_repeated_own": 4.0, "eval_repeated_off": 6.5, "eval_validation_own": 5.5, "eval_validation_off": 5.3}
HISTOGRAM = {"exposures_hist/1": 300, "exposures_hist/2-3": 0, "exposures_hist/4-7": 20}


class Clock:
    def __init__(self):
        self.now = 500.0

    def __call__(self):
        return self.now

    def local(self):
        return START + timedelta(seconds=self.now - 500)


def at(step, first=True):
    state = TrainerState(global_step=step, max_steps=400)
    state.is_world_process_zero = first
    return state


def console(terminal, **options):
    options = {"width": 120, "color_system": None} | options
    return Console(file=io.StringIO(), force_terminal=terminal, **options)


def follow(view, clock, start=0, first=True, end=400):
    control = TrainerControl()
    view.on_train_begin(None, at(start, first), control)
    view.on_log(None, at(start, first), control, logs=dict(FIRST))
    clock.now += 130
    view.on_step_end(None, at(start + 100, first), control)
    view.on_log(None, at(start + 100, first), control, logs=dict(SECOND))
    view.on_log(None, at(start + 100, first), control, logs=TRAINING | HISTOGRAM)
    if end:
        clock.now += 390
        view.on_step_end(None, at(end, first), control)
        view.on_train_end(None, at(end, first), control)


def test_plain_lines_where_there_is_no_terminal():
    clock, out = Clock(), console(False)
    view = LiveView("sinks", notes=["attention sdpa"], console=out, clock=clock, now=clock.local)
    view.note("going on from checkpoint-7")
    follow(view, clock)
    assert out.file.getvalue().splitlines() == [
        "attention sdpa",
        "going on from checkpoint-7",
        "sinks: 400 steps",
        "step 0/400  loss of repeated own 5.000, off 6.000; validation own 5.500, off 5.400",
        "step 100/400  loss of repeated own 4.000 (-1.000), off 6.500 (+0.500); validation own 5.500 (+0.000), "
        "off 5.300 (-0.100)",
        "step 100/400 (25%)  loss 3.2100  gradient norm 0.5  learning rate 2.00e-03  tokens/s 12,346  MFU 31.4%  "
        "padding 12.0%  waiting for data 0.4%  2 min 10 s, 6 min 30 s left, done 23:08",
        "step 100/400  IDs by exposures: 1: 300, 2-3: 0, 4-7: 20",
        "sinks: finished, step 400, after 8 min 40 s",
    ]


@pytest.mark.parametrize("kind", ["dumb", "pipe"])
def test_no_control_characters_outside_a_terminal(kind, monkeypatch):
    if kind == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    clock, out = Clock(), console(kind == "dumb")
    follow(LiveView(console=out, clock=clock, now=clock.local), clock)
    text = out.file.getvalue()
    assert "step 100/400 (25%)" in text
    assert text.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_other_ranks_are_silent(tmp_path):
    clock, out = Clock(), console(False)
    follow(LiveView(console=out, clock=clock), clock, first=False)
    follow(RunLog(tmp_path / "run.log", clock=clock), clock, first=False)
    assert out.file.getvalue() == ""
    assert not (tmp_path / "run.log").exists()


def test_skipped_steps_show_once_there_are_any():
    clock, out = Clock(), console(False)
    view = LiveView(console=out, clock=clock)
    view.on_train_begin(None, at(0), None)
    view.on_log(None, at(5), None, logs=TRAINING | {"skipped_steps": 2})
    assert "skipped steps 2" in out.file.getvalue()


def rendered(view, width=120, **options):
    out = console(True, width=width, **options)
    out.print(view.render())
    return out.file.getvalue()


def test_a_terminal_shows_figures_in_place():
    clock, out = Clock(), console(True)
    view = LiveView("sinks", notes=["attention sdpa"], console=out, clock=clock, now=clock.local)
    follow(view, clock, end=None)
    text = rendered(view)
    for words in ("sinks", "100/400", "2 min 10 s, 6 min 30 s left, done 23:08", "attention sdpa"):
        assert words in text
    for name, value in {
        "loss": "3.2100", "gradient norm": "0.5", "learning rate": "2.00e-03", "tokens/s": "12,346", "MFU": "31.4%",
        "padding": "12.0%", "waiting for data": "0.4%",
    }.items():  # fmt: skip
        assert re.search(rf"│ {name} +{re.escape(value)} │", text), name
    assert re.search(r"repeated +4\.000 ↓1\.000 +6\.500 ↑0\.500", text)
    assert re.search(r"validation +5\.500 =0\.000 +5\.300 ↓0\.100", text)
    assert re.search(rf"1 {'█' * BAR_WIDTH} 300", text)
    assert re.search(r"4-7 █▏ +20", text)
    assert "step 100/400" not in out.file.getvalue()
    view.close()
    view.close()
    shown = out.file.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_an_error_gives_the_terminal_back():
    clock, out = Clock(), console(True)

    def fail():
        with LiveView(console=out, clock=clock) as view:
            view.on_train_begin(None, at(0), None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert out.file.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_every_width_shows_everything(width):
    clock = Clock()
    view = LiveView(console=console(True, width=width), clock=clock, now=clock.local)
    follow(view, clock, end=None)
    text = rendered(view, width)
    view.close()
    assert max(map(len, text.splitlines())) <= width
    for words in ("tokens/s", "12,346", "4.000", "5.300", "300"):
        assert words in text


def test_compact_is_one_line():
    clock = Clock()
    view = LiveView("arm", compact=True, console=console(True), clock=clock, now=clock.local)
    follow(view, clock, end=None)
    text = rendered(view)
    view.close()
    assert len(text.splitlines()) == 1
    assert "loss 3.210 2 min 10 s, 6 min 30 s left" in text


def test_a_resumed_run_counts_all_its_time_and_its_own_speed():
    clock, out = Clock(), console(False)
    view = LiveView("sinks", console=out, clock=clock, now=clock.local)
    view.on_train_begin(None, at(300), None)
    clock.now += 20
    view.on_log(None, at(310), None, logs=TRAINING | {"elapsed_seconds": 620.0})
    text = out.file.getvalue()
    assert "sinks: 400 steps, resumed after step 300\n" in text
    assert "10 min 20 s, 3 min 00 s left, done 23:03" in text


def test_run_log_keeps_earlier_lines(tmp_path):
    clock = Clock()
    for _ in range(2):
        log = RunLog(tmp_path / "run.log", "sinks", notes=["a note"], clock=clock, now=clock.local)
        follow(log, clock)
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert len(lines) == 14
    assert lines[:2] == ["2026-05-01 23:00:00  sinks: 400 steps", "2026-05-01 23:00:00  a note"]
    assert lines[4].startswith("2026-05-01 23:02:10  step 100/400 (25%)  loss 3.2100")
    assert lines[6] == "2026-05-01 23:08:40  sinks: finished, step 400, after 8 min 40 s"


def test_a_stopped_run_says_so(tmp_path):
    clock = Clock()
    follow(RunLog(tmp_path / "run.log", clock=clock, now=clock.local), clock, end=150)
    assert "stopped before step 400, step 150" in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3600, "1 h 00 min"), (90061, "1 d 01 h")],
)
def test_spans(seconds, text):
    assert span(seconds) == text


def test_another_day_has_its_date():
    assert moment(START, START) == "23:00"
    assert moment(START + timedelta(hours=1), START) == "2026-05-02 00:00"


def test_bars():
    assert bar(0, 10) == ""
    assert bar(1, 10**6) == "▏"
    assert bar(10, 10) == "█" * BAR_WIDTH
    assert bar(5, 10) == "█" * (BAR_WIDTH // 2)
    assert bar(1, 10**6, ascii_only=True) == "#"


def test_a_terminal_without_unicode():
    clock = Clock()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    out = Console(file=stream, force_terminal=True, width=120, color_system=None)
    view = LiveView(console=out, clock=clock, now=clock.local)
    follow(view, clock)
    stream.flush()
    assert b"4.000 v1.000" in stream.buffer.getvalue()
