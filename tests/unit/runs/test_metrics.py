"""Figures against sums done by hand, and metrics.jsonl against kills at any byte."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from families import HIDDEN, LAYERS, VOCABULARY, WIDTH, plain_model, sink_model
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks.corpus.files import append_text
from memsinks.errors import InputError
from memsinks.runs.gauge import Gauge, exposure_bins, training_flops_per_token
from memsinks.runs.live import RunLog
from memsinks.runs.metrics import MetricsWriter, parse_logs, read_metrics, start_metrics
from memsinks.training.exposures import ExposureCounter


class Counters:
    """A meter whose counters a test sets."""

    def __init__(self):
        self.tokens = self.slots = self.padding = self.skipped_steps = 0
        self.waiting_seconds = 0.0
        self.exposures = ExposureCounter()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def state_at(step, max_steps=100, first=True, logged=()):
    state = TrainerState(global_step=step, max_steps=max_steps, log_history=[{"loss": 1.0, "step": s} for s in logged])
    state.is_world_process_zero = first
    return state


def started(step=0, **options):
    meter, clock = Counters(), Clock()
    gauge = Gauge(meter, clock=clock, **options)
    gauge.on_train_begin(None, state_at(step), TrainerControl())
    gauge.on_step_begin(None, state_at(step), TrainerControl())
    return gauge, meter, clock


# Gauge


def test_figures_are_those_of_the_interval():
    gauge, meter, clock = started(flops_per_token=50.0, peak_flops=200_000.0)
    meter.tokens, meter.slots, meter.padding, meter.waiting_seconds = 6000, 8000, 2000, 0.5
    clock.now += 4
    first = gauge.extra_logs({"loss": 2.0}, state_at(10))
    assert first["tokens_per_second"] == 1500
    assert first["mfu"] == 1500 * 50 / 200_000
    assert first["padding_share"] == 0.25
    assert first["waiting_share"] == 0.125
    meter.tokens, meter.slots, meter.padding, meter.waiting_seconds, meter.skipped_steps = 7000, 10_000, 3000, 1.5, 3
    clock.now += 2
    second = gauge.extra_logs({"loss": 2.0}, state_at(20, logged=[10]))
    assert second == {
        "tokens": 7000, "tokens_per_second": 500, "mfu": 500 * 50 / 200_000, "padding_share": 0.3,
        "waiting_share": 0.5, "elapsed_seconds": 6, "skipped_steps": 3,
    }  # fmt: skip


def test_other_entries_get_nothing_and_do_not_end_the_interval():
    gauge, meter, clock = started()
    meter.tokens = 100
    clock.now += 1
    assert gauge.extra_logs({"eval_repeated_own": 1.0}, state_at(5)) == {}
    meter.tokens = 300
    clock.now += 1
    figures = gauge.extra_logs({"loss": 1.0}, state_at(10))
    assert figures["tokens_per_second"] == 150
    assert not {"mfu", "padding_share"} & figures.keys()


def test_evaluations_and_checkpoints_are_not_training_time():
    gauge, meter, clock = started()
    clock.now += 1
    with gauge.paused():
        clock.now += 50
    meter.tokens = 100
    assert gauge.extra_logs({"loss": 1.0}, state_at(10))["tokens_per_second"] == 100
    clock.now += 30
    gauge.on_save(None, state_at(10), TrainerControl())
    clock.now += 2
    meter.tokens = 200
    figures = gauge.extra_logs({"loss": 1.0}, state_at(20, logged=[10]))
    assert figures["tokens_per_second"] == 50
    assert figures["elapsed_seconds"] == 1 + 50 + 30 + 2


def test_a_checkpoint_between_entries_is_not_taken_for_training_time_lost():
    gauge, meter, clock = started()
    clock.now += 4
    gauge.on_save(None, state_at(5), TrainerControl())
    clock.now += 4
    meter.tokens = 80
    assert gauge.extra_logs({"loss": 1.0}, state_at(10))["tokens_per_second"] == 10


def test_tokens_before_a_resume_do_not_count_as_speed():
    meter, clock = Counters(), Clock()
    gauge = Gauge(meter, clock=clock)
    meter.tokens, meter.slots, meter.padding = 5000, 6000, 900
    gauge.on_train_begin(None, state_at(50), TrainerControl())
    gauge.elapsed_before = 70.0
    clock.now += 10
    meter.tokens, meter.slots, meter.padding = 5100, 6200, 1000
    figures = gauge.extra_logs({"loss": 1.0}, state_at(60))
    assert figures["tokens"] == 5100
    assert figures["tokens_per_second"] == 10
    assert figures["padding_share"] == 1000 / 6200
    assert figures["elapsed_seconds"] == 80


@given(st.lists(st.integers(0, 2**40), max_size=60))
def test_bins_hold_every_count_once(counts):
    expected = Counter(next(b for b in range(50) if 2**b <= count < 2 ** (b + 1)) for count in counts if count)
    bins = exposure_bins(counts)
    assert {name: n for name, n in bins.items() if n} == {
        ("1" if b == 0 else f"{2**b}-{2 ** (b + 1) - 1}"): n for b, n in expected.items()
    }
    assert len(bins) == max(expected, default=-1) + 1


def test_histograms_come_every_few_steps_and_at_the_end_also_after_a_resume():
    def shown(steps, gauge, logged):
        found = []
        for step in steps:
            if any(
                name.startswith("exposures")
                for name in gauge.extra_logs({"loss": 1.0}, state_at(step, 45, logged=logged))
            ):
                found.append(step)
            logged.append(step)
        return found

    steps = [10, 20, 30, 40, 45]
    gauge, meter, _ = started(histogram_every=15)
    meter.exposures.update([1, 1, 1, 2])
    assert shown(steps, gauge, []) == [20, 30, 45]
    # Resumed from a checkpoint at step 16, between two entries.
    gauge, meter, _ = started(16, histogram_every=15)
    meter.exposures.update([1])
    assert shown(steps[1:], gauge, [10]) == [20, 30, 45]


def test_histogram_names_and_numbers():
    gauge, meter, clock = started()
    meter.exposures.update([7] * 5 + [8] * 2 + [9])
    clock.now += 1
    figures = gauge.extra_logs({"loss": 1.0}, state_at(100))
    assert {n: v for n, v in figures.items() if "hist" in n} == {
        "exposures_hist/1": 1, "exposures_hist/2-3": 1, "exposures_hist/4-7": 1,
    }  # fmt: skip


def test_flops_of_a_llama_by_hand():
    # Each layer: queries and output 16x16, keys and values 16x8, three MLP matrices; head 61x16; two heads of 8.
    weights = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * 8 + 3 * HIDDEN * WIDTH) + VOCABULARY * HIDDEN
    plain = 6 * weights + 12 * LAYERS * 16 * 20
    assert training_flops_per_token(plain_model("llama"), 20) == plain
    model = sink_model("llama")
    rows = [p for name, p in model.named_parameters() if "sink" in name]
    active = model.sink_config.active * sum(p.shape[1] for p in rows)
    assert training_flops_per_token(model, 20) == plain + 6 * active


def test_a_tied_head_counts_and_embeddings_do_not():
    model = plain_model("gpt2")
    assert model.lm_head.weight is model.transformer.wte.weight
    weights = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * 4 * HIDDEN) + VOCABULARY * HIDDEN
    assert training_flops_per_token(model, 1) == 6 * weights + 12 * LAYERS * HIDDEN


# The file

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


def write_run(file, last=12, every=2, save=4, start=0):
    """What the callbacks are told in a run that logs every ``every`` steps and saves every ``save``."""
    writer = MetricsWriter(file, now=lambda: NOW)
    writer.on_train_begin(None, state_at(start), TrainerControl())
    if start == 0:
        writer.on_log(None, state_at(0), None, logs={"eval_repeated_own": 6.0, "eval_repeated_off": 6.0})
    for step in range(start + 1, last + 1):
        if step % 3 == 0:
            writer.on_log(None, state_at(step), None, logs={"eval_repeated_own": 6 / step, "eval_repeated_off": 5.5})
        if step % every == 0:
            logs = {"loss": 10 / step, "grad_norm": 1.5, "learning_rate": 0.1, "epoch": 0.5, "tokens": step * 7}
            hist = {"exposures_hist/1": step, "exposures_hist/2-3": 0} if step % save == 0 else {}
            writer.on_log(None, state_at(step), None, logs=logs | hist)
    return file


def test_one_line_for_each_kind(tmp_path):
    entries = read_metrics(write_run(tmp_path / "deeper" / "metrics.jsonl", last=4))
    moment = "2026-05-01T12:30:00Z"
    assert entries[0] == {"step": 0, "evaluation": {"repeated": {"own": 6.0, "off": 6.0}}, "time": moment}
    assert entries[-2:] == [
        {"step": 4, "loss": 2.5, "grad_norm": 1.5, "learning_rate": 0.1, "tokens": 28, "time": moment},
        {"step": 4, "exposures": {"1": 4, "2-3": 0}, "time": moment},
    ]
    assert [e["step"] for e in entries] == [0, 2, 3, 4, 4]


def test_names_of_others_are_left_out():
    logs = {"eval_loss": 1.0, "eval_samples_per_second": 3.0, "eval_my_set_off": 2.0, "train_runtime": 3.0, "epoch": 1}
    entry = parse_logs(logs)
    assert entry.evaluation == {"my_set": {"off": 2.0}}
    assert entry.training == entry.exposures == {}


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_killed_anywhere_and_resumed_anywhere_the_file_is_that_of_one_run(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kill")
    whole = write_run(folder / "whole.jsonl").read_bytes()
    file = folder / "metrics.jsonl"
    size = data.draw(st.integers(0, len(whole)), "bytes written before the kill")
    file.write_bytes(whole[:size])
    # A checkpoint of a step exists only once everything up to that step was written.
    lines = whole.splitlines(keepends=True)
    ends = {0: 0}
    place = 0
    for line in lines:
        place += len(line)
        step = json.loads(line).get("step", 0)
        if step % 4 == 0 and step:
            ends[step] = place
    step = data.draw(st.sampled_from([s for s, end in ends.items() if end <= size + 1]), "step resumed from")
    write_run(file, start=step)
    assert file.read_bytes() == whole
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.jsonl", "whole.jsonl"]


@settings(deadline=None, max_examples=100)
@given(size=st.integers(0, 2000), step=st.integers(0, 20))
def test_no_kill_and_no_step_leave_anything_but_whole_earlier_lines(tmp_path_factory, size, step):
    folder = tmp_path_factory.mktemp("kill")
    whole = write_run(folder / "whole.jsonl")
    entries = read_metrics(whole)
    file = folder / "metrics.jsonl"
    file.write_bytes(whole.read_bytes()[:size])
    kept = start_metrics(file, step)
    assert kept == read_metrics(file) == entries[: len(kept)]
    assert all(0 < step >= entry["step"] for entry in kept)
    later = entries[len(kept) : len(kept) + 1]
    partial = len(b"".join(whole.read_bytes().splitlines(keepends=True)[: 2 + len(kept)])) > size + 1
    assert step == 0 or not later or later[0]["step"] > step or partial


def test_reading_goes_on_while_a_line_is_being_written(tmp_path):
    file = write_run(tmp_path / "metrics.jsonl", last=4)
    before = read_metrics(file)
    with file.open("a") as stream:
        stream.write('{"step": 6, "los')
    assert read_metrics(file) == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"step": 6, "los', "line 3: not JSON"),
        ('{"loss": 1}', "'step'"),
        ('{"step": -1}', "'step'"),
        ('{"step": true}', "'step'"),
        ('{"step": 1, "loss": "low"}', "loss must be a number or null, not 'low'"),
        ('{"step": 1, "evaluation": {"repeated": 3}}', "evaluation.repeated"),
        ('{"step": 1, "evaluation": {"repeated": {"own": "x"}}}', "repeated own"),
        ('{"step": 1, "exposures": [1]}', "exposures"),
        ("[]", "object"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, line, words):
    file = write_run(tmp_path / "metrics.jsonl", last=2)
    lines = file.read_text().splitlines()
    lines.insert(2, line)
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        read_metrics(file)
    assert f"{file}, line 3: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [('{"a": 1}\n', "line 1"), ('{"format": "memsinks-metrics", "format_version": 9}\n', "version 9"), (None, "read")],
)
def test_what_is_no_metrics_file_is_refused(tmp_path, content, words):
    file = tmp_path / "metrics.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=words):
        read_metrics(file)


def test_what_is_not_finite_becomes_null(tmp_path):
    file = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(file)
    writer.on_train_begin(None, state_at(0), None)
    writer.on_log(None, state_at(1), None, logs={"loss": float("nan"), "grad_norm": float("inf")})
    entry = read_metrics(file)[0]
    assert entry["loss"] is None
    assert entry["grad_norm"] is None


def test_only_the_first_rank_writes(tmp_path):
    file = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(file)
    writer.on_train_begin(None, state_at(0, first=False), None)
    writer.on_log(None, state_at(1, first=False), None, logs={"loss": 1.0})
    assert not file.exists()


def test_seconds_before_a_resume_reach_the_gauge(tmp_path):
    file = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(file)
    writer.on_train_begin(None, state_at(0), None)
    for step, seconds in ((5, 8.5), (10, 17.0)):
        writer.on_log(None, state_at(step), None, logs={"loss": 1.0, "elapsed_seconds": seconds})
    gauge, _, _ = started()
    MetricsWriter(file, gauge).on_train_begin(None, state_at(7), None)
    assert gauge.elapsed_before == 8.5


# With transformers' Trainer and its trackers


class Logging(Trainer):
    """Merges further figures as SinkTrainer does."""

    gauge: Gauge

    def log(self, logs, *args, **kwargs):
        super().log(logs | self.gauge.extra_logs(logs, self.state), *args, **kwargs)


def train(directory, callbacks, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return {"loss": self.inner(x).square().mean()}

    settings_ = {"max_steps": 7, "logging_steps": 3, "save_steps": 2, "per_device_train_batch_size": 2}
    arguments = TrainingArguments(
        output_dir=str(directory), use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
        remove_unused_columns=False, **{"report_to": "none", **settings_, **options},
    )  # fmt: skip
    meter = Counters()
    meter.exposures.update([1, 1, 2])
    gauge = Gauge(meter, flops_per_token=2.0, peak_flops=1e6)
    trainer = Logging(Model(), arguments, train_dataset=[{"x": torch.ones(4)}] * 40)
    trainer.gauge = gauge
    for callback in [gauge, *(make(gauge, trainer) for make in callbacks)]:
        trainer.add_callback(callback)
    trainer.train()
    return trainer


def test_an_entry_with_each_checkpoint_and_at_the_end(tmp_path):
    file = tmp_path / "metrics.jsonl"
    train(tmp_path / "out", [lambda gauge, _: MetricsWriter(file, gauge)])
    entries = read_metrics(file)
    assert [e["step"] for e in entries if "loss" in e] == [2, 3, 4, 6, 7]
    assert [e["step"] for e in entries if "exposures" in e] == [7]
    assert entries[-1]["exposures"] == {"1": 1, "2-3": 1}


EXPECTED_TAGS = {
    "train/loss", "train/grad_norm", "train/learning_rate", "train/tokens", "train/tokens_per_second", "train/mfu",
    "train/waiting_share", "train/elapsed_seconds", "train/skipped_steps", "train/exposures_hist/1",
    "train/exposures_hist/2-3", "eval/repeated_own", "eval/validation_off",
}  # fmt: skip


class Evaluated:
    """Logs two losses after the second step, as Evaluation does."""

    @staticmethod
    def make(gauge, trainer):
        class Callback(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == 2:
                    asked = control.should_log
                    trainer.log({"eval_repeated_own": 1.25, "eval_validation_off": 3.5})
                    control.should_log = asked

        return Callback()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tensorboard_gets_the_same_numbers(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    file = tmp_path / "metrics.jsonl"
    callbacks = [lambda gauge, _: MetricsWriter(file, gauge), Evaluated.make]
    train(tmp_path / "out", callbacks, report_to="tensorboard", save_strategy="no")
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= EXPECTED_TAGS
    entries = read_metrics(file)
    for name in ("loss", "tokens_per_second", "mfu", "elapsed_seconds"):
        there = [(e.step, e.value) for e in events.Scalars(f"train/{name}")]
        here = [(e["step"], e[name]) for e in entries if name in e]
        assert [s for s, _ in there] == [s for s, _ in here] == [3, 6, 7]
        assert [v for _, v in there] == pytest.approx([v for _, v in here], rel=1e-6)
    assert [(e.step, e.value) for e in events.Scalars("eval/repeated_own")] == [(2, 1.25)]


@pytest.mark.filterwarnings("ignore")
def test_trackio_gets_the_same_numbers_without_a_network(tmp_path, monkeypatch, capsys):
    pytest.importorskip("trackio")
    # Trackio reads its folder when it is imported, and keeps threads: a process of its own.
    script = tmp_path / "run.py"
    script.write_text(
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network in this test')\n"
        "socket.socket.connect = refuse\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[2]), str(Path(__file__).parent)]!r}\n"
        "import test_metrics as t\n"
        "from memsinks.runs.metrics import MetricsWriter\n"
        "from pathlib import Path\n"
        "out = Path(sys.argv[1])\n"
        "make = [lambda g, _: MetricsWriter(out / 'metrics.jsonl', g), t.Evaluated.make]\n"
        "t.train(out / 'out', make, report_to='trackio', save_strategy='no', project='memsinks-test', run_name='r')\n"
        "import json\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "print('LOGS' + json.dumps(SQLiteStorage.get_logs('memsinks-test', 'r'), default=str))\n"
    )
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    logs = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("LOGS"))[4:])
    names = {name for entry in logs for name in entry}
    assert names >= EXPECTED_TAGS, sorted(EXPECTED_TAGS - names)
    there = [(e["train/global_step"], e["train/tokens_per_second"]) for e in logs if "train/tokens_per_second" in e]
    here = [(e["step"], e["tokens_per_second"]) for e in read_metrics(tmp_path / "metrics.jsonl") if "loss" in e]
    assert there == here


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_is_named():
    with pytest.raises(InputError, match="no space left"):
        RunLog(Path("/dev/full")).say("a line")
    with pytest.raises(InputError, match="no space left"):
        append_text(Path("/dev/full"), "an entry")
