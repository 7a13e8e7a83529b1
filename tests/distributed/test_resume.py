"""Runs that are killed, damaged or asked to stop, and go on with another number of processes."""

import json
import re
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from launching import Run, TorchRun, entries, exposures, run_file, step_of, until
from slow_rank_worker import work

STEPS = 16
FSDP = ["--parallel.strategy", "fsdp2"]
DDP = ["--parallel.strategy", "ddp"]
TOLERANCE = 5e-5
"""Of losses of about 5 and of weights: float32 sums over ranks come in another order."""


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """One process, never stopped; it keeps a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("whole")
    run = Run(["train", str(file_of(folder, corpus))], folder / "log")
    assert run.wait() == 0, run.text()
    return folder


def file_of(folder: Path, corpus) -> Path:
    sections = {
        "schedule": {"batch_size": 8, "micro_batch_size": 2, "steps": STEPS, "warmup_steps": 2},
        "precision": {"bf16": False},
        "logging": {"every_steps": 1, "evaluate_every": 0, "live": False},
        "checkpoints": {"every_steps": 1, "keep": STEPS},
    }
    return run_file(folder / "run.toml", corpus, "out", sections)


def assert_the_same(folder: Path, whole: Path) -> None:
    """The same rows in the same steps, and where they lead."""
    for step in range(1, STEPS + 1):
        ours, theirs = (d / "out-run" / f"checkpoint-{step}" for d in (folder, whole))
        assert exposures(ours) == exposures(theirs), step
    final = [pq.read_table(d / "out" / "exposures.parquet") for d in (folder, whole)]
    assert final[0].equals(final[1], check_metadata=True)
    ours, theirs = ([e for e in entries(d / "out" / "metrics.jsonl") if "loss" in e] for d in (folder, whole))
    assert [e["step"] for e in ours] == [e["step"] for e in theirs] == list(range(1, STEPS + 1))
    assert [e["tokens"] for e in ours] == [e["tokens"] for e in theirs]
    assert [e["loss"] for e in ours] == pytest.approx([e["loss"] for e in theirs], abs=TOLERANCE)
    for part in ("model", "sinks"):
        ours, theirs = (safetensors.torch.load_file(d / "out" / f"{part}.safetensors") for d in (folder, whole))
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, atol=TOLERANCE, rtol=0, msg=f"{part} {key}")


def kill_after(run: Run | TorchRun, folder: Path, step: int) -> None:
    until(run, lambda: step_of(folder / "out-run") >= step)
    run.kill()
    assert not (folder / "out").exists()


def finish(folder: Path, file: Path, options: list[str], world: int) -> str:
    run = Run(["train", str(file), *options], folder / "last.log", world)
    assert run.wait() == 0, run.text()
    assert_found(r"going on from checkpoint-\d+", (folder / "out-run" / "run.log").read_text())
    return run.text()


def assert_found(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


def test_fsdp2_killed_goes_on_in_one_process(corpus, whole, tmp_path):
    """torchrun and its workers are killed at once; two processes' shards become one's whole tensors, same settings."""
    file = file_of(tmp_path, corpus)
    kill_after(TorchRun(["train", str(file), *FSDP], tmp_path / "log"), tmp_path, 4)
    finish(tmp_path, file, FSDP, 1)
    assert_the_same(tmp_path, whole)


@pytest.mark.parametrize("options", [DDP, FSDP], ids=["ddp", "fsdp2"])
def test_one_process_killed_goes_on_in_two(options, corpus, whole, tmp_path):
    file = file_of(tmp_path, corpus)
    kill_after(Run(["train", str(file)], tmp_path / "log"), tmp_path, 5)
    finish(tmp_path, file, options, 2)
    assert_the_same(tmp_path, whole)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "name", "world"),
    [(flip, "sinks.safetensors", 2), (truncate, "model.safetensors", 1)],
)
def test_a_damaged_checkpoint_is_passed_over(damage, name, world, whole, corpus, tmp_path):
    """The newest is damaged: the one before it serves, and standard error says so."""
    file = file_of(tmp_path, corpus)
    for step in (9, 10):
        shutil.copytree(whole / "out-run" / f"checkpoint-{step}", tmp_path / "out-run" / f"checkpoint-{step}")
    shutil.copyfile(whole / "out-run" / "metrics.jsonl", tmp_path / "out-run" / "metrics.jsonl")
    damage(tmp_path / "out-run" / "checkpoint-10" / name)
    for step in range(1, 9):  # for the comparison
        shutil.copytree(whole / "out-run" / f"checkpoint-{step}", tmp_path / "out-run" / f"checkpoint-{step}")
    # The view is on, so that its notes are on standard error.
    said = finish(tmp_path, file, ["--logging.live"], world)
    assert_found(rf"passed over a damaged checkpoint: .*checkpoint-10/{name} was altered", said)
    assert_found(r"going on from checkpoint-9", said)
    assert_the_same(tmp_path, whole)


def test_a_checkpoint_waits_for_every_rank(corpus, tmp_path):
    """It is sealed and renamed when the last rank has written its part, not when the first has."""
    sections = {
        "schedule": {"batch_size": 8, "steps": 2},
        "checkpoints": {"every_steps": 1},
        "logging": {"live": False},
    }
    file = run_file(tmp_path / "run.toml", corpus, "out", sections)
    run = Run(["train", str(file)], tmp_path / "log", 2, target=work)
    assert run.wait() == 0, run.text()
    for step in (1, 2):
        checkpoint = tmp_path / "out-run" / f"checkpoint-{step}"
        sealed = json.loads((checkpoint / "checkpoint.json").read_text())["files"]
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= sealed.keys()
        assert sealed.keys() | {"checkpoint.json"} == {p.name for p in checkpoint.iterdir()}


def test_torchrun_asked_to_stop(corpus, whole, tmp_path):
    """SIGTERM to torchrun: all ranks stop after the step under way, with a checkpoint of it, and the rerun goes on.

    The rerun saves more often than the checkpoint's run did.
    """
    file = file_of(tmp_path, corpus)
    run = TorchRun(["train", str(file), *DDP, "--checkpoints.every-steps", "0"], tmp_path / "log")
    until(run, lambda: step_of(tmp_path / "out-run") >= 3)
    run.send(signal.SIGTERM)
    assert run.wait() != 0
    saved = [p.name for p in (tmp_path / "out-run").glob("checkpoint-*")]
    assert len(saved) == 1
    step = int(saved[0].removeprefix("checkpoint-"))
    assert 3 <= step < STEPS
    assert f"stopped after step {step}" in run.text()
    assert {p.name for p in (tmp_path / "out-run" / saved[0]).glob("rng_state_*")} == {
        "rng_state_0.pth", "rng_state_1.pth"
    }  # fmt: skip
    for before in range(1, step):
        shutil.copytree(whole / "out-run" / f"checkpoint-{before}", tmp_path / "out-run" / f"checkpoint-{before}")
    finish(tmp_path, file, DDP, 2)
    assert_the_same(tmp_path, whole)
    again = Run(["train", str(file), *DDP], tmp_path / "again.log", 2)
    assert again.wait() == 0, again.text()
    assert_found("already finished", again.text())
