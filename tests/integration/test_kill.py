"""A run that is interrupted, however it is, ends with the bytes of one that never was.

Each case is interrupted twice and then left to finish, always by the same command.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from launching import Run, lasting, run_file, step_of, until, write_corpus
from transformers import GPT2Config

STEPS = 24
BASE = {
    "schedule": {"batch_size": 4, "steps": STEPS, "warmup_steps": 3},
    "precision": {"bf16": False},
    "checkpoints": {"every_steps": 4},
    # 5 does not divide 4: entries average over steps on both sides of a checkpoint.
    "logging": {"every_steps": 5, "evaluate_every": 6, "evaluate_documents": 2, "live": False},
}
MODELS = {"llama": {}, "gpt2 with dropout": {"model": {"config": "{gpt2}"}}}
FILES = ("model.safetensors", "sinks.safetensors", "sinks.json", "exposures.parquet")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """By model, what a run without a break leaves behind."""
    made = {}

    def make(model: str) -> dict[str, object]:
        if model not in made:
            folder = tmp_path_factory.mktemp("whole")
            run = Run(["train", str(file_of(folder, corpus, model))], folder / "log")
            assert run.wait() == 0, run.text()
            made[model] = left_by(folder)
        return made[model]

    return make


def file_of(folder: Path, corpus, model: str = "llama", **more) -> Path:
    sections = BASE | MODELS[model] | more
    if "model" in sections:
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 300}
        config = GPT2Config(**shape, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
        config.save_pretrained(folder / "gpt2")
        sections = sections | {"model": {"config": str(folder / "gpt2" / "config.json")}}
    return run_file(folder / "run.toml", corpus, "out", sections)


def left_by(folder: Path) -> dict[str, object]:
    checkpoint = folder / "out-run" / f"checkpoint-{STEPS}"
    files = [*(folder / "out" / name for name in FILES), checkpoint / "optimizer.safetensors"]
    found = {file.name: file.read_bytes() for file in files}
    return found | {
        "metrics": [e for e in lasting(folder / "out" / "metrics.jsonl") if "loss" in e or "evaluation" in e]
    }


def assert_the_same(folder: Path, expected: dict[str, object]) -> None:
    """Byte by byte."""
    found = left_by(folder)
    assert found["metrics"] == expected["metrics"]
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list((folder / "out-run").glob(".writing*"))
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith((".out", "out"))) == ["out", "out-run"]


def started(folder: Path, file: Path, **options) -> Run:
    return Run(["train", str(file)], folder / "log", **options)


def finish(folder: Path, file: Path) -> None:
    run = started(folder, file)
    assert run.wait() == 0, run.text()


@pytest.mark.parametrize("model", MODELS)
def test_killed_at_random_moments(model, corpus, whole, tmp_path):
    rng = random.Random(2)
    file = file_of(tmp_path, corpus, model)
    for low, high in ((5, 9), (11, 18)):
        run, step = started(tmp_path, file), rng.randint(low, high)
        until(run, lambda step=step: seen(tmp_path) >= step)
        time.sleep(rng.random() * 0.1)
        run.kill()
        assert not (tmp_path / "out").exists()
    finish(tmp_path, file)
    assert "going on from checkpoint-" in (tmp_path / "out-run" / "run.log").read_text()
    assert_the_same(tmp_path, whole(model))


def test_killed_while_a_checkpoint_is_written(corpus, whole, tmp_path):
    rng, file, cut = random.Random(3), file_of(tmp_path, corpus), []
    for after in (0, 8):
        run = started(tmp_path, file)
        until(run, lambda after=after: seen(tmp_path) >= after and list((tmp_path / "out-run").glob(".writing/*")))
        time.sleep(rng.random() * 0.01)
        run.kill()
        cut += (tmp_path / "out-run").glob(".writing/*")
    assert cut, "both kills came too late"
    finish(tmp_path, file)
    assert_the_same(tmp_path, whole("llama"))


def test_asked_to_stop(corpus, whole, tmp_path):
    """SIGTERM leaves a checkpoint of the step under way."""
    file, stopped = file_of(tmp_path, corpus), []
    for after in (5, 15):
        run = started(tmp_path, file)
        until(run, lambda after=after: seen(tmp_path) >= after)
        run.send(signal.SIGTERM)
        assert run.wait() == 1, run.text()
        last = int(re.findall(r"stopped after step (\d+)", run.text())[-1])
        assert (tmp_path / "out-run" / f"checkpoint-{last}").is_dir()
        stopped.append(last)
    assert 5 <= stopped[0] < 15 <= stopped[1] < STEPS
    assert f"going on from checkpoint-{stopped[0]}" in log_of(tmp_path)
    finish(tmp_path, file)
    assert f"going on from checkpoint-{stopped[1]}" in log_of(tmp_path)
    assert_the_same(tmp_path, whole("llama"))


def test_a_file_that_cannot_be_written(corpus, whole, tmp_path):
    """A file-size limit: a checkpoint breaks off in its middle, and the ones before it are untouched."""
    file, expected = file_of(tmp_path, corpus), whole("llama")
    limit = (len(expected["optimizer.safetensors"]) + len(expected["sinks.safetensors"])) // 2
    assert len(expected["model.safetensors"]) < limit
    run = started(tmp_path, file, file_limit=limit)
    assert run.wait() == 2, run.text()
    assert "make room" in run.text().strip().splitlines()[-1]
    assert not list((tmp_path / "out-run").glob("checkpoint-*"))
    run = started(tmp_path, file)
    until(run, lambda: seen(tmp_path) >= 10)
    run.kill()
    before = saved(tmp_path)
    run = started(tmp_path, file, file_limit=limit)
    assert run.wait() == 2, run.text()
    assert saved(tmp_path) == before != {}
    finish(tmp_path, file)
    assert_the_same(tmp_path, expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(corpus, whole, tmp_path):
    """The disk fills up while training; what is there stays whole, and with room again the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.decode().strip()}")
    try:
        file = file_of(disk, corpus)
        for after in (6, 14):
            run = Run(["train", str(file)], tmp_path / "log")
            until(run, lambda after=after: seen(disk) >= after)
            run.send(signal.SIGSTOP)  # or it would make room while the rest is filled
            fill(disk / "filler")
            run.send(signal.SIGCONT)
            assert run.wait() == 2, run.text()
            assert "Traceback" not in run.text()
            (disk / "filler").unlink()
            assert saved(disk)
        run = Run(["train", str(file)], tmp_path / "log")
        assert run.wait() == 0, run.text()
        assert_the_same(disk, whole("llama"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_dead_worker(corpus, whole, tmp_path):
    """A process that reads ahead is killed, as by a machine out of memory."""
    file = file_of(tmp_path, corpus, stream={"workers": 1})
    for after in (4, 12):
        run = started(tmp_path, file)
        until(run, lambda after=after: seen(tmp_path) >= after)
        (worker,) = psutil.Process(run.processes[0].pid).children()
        worker.kill()
        assert run.wait() == 2, run.text()
        assert "Traceback" not in run.text()
        assert "stream.workers = 0" in run.text()
    finish(tmp_path, file)
    assert_the_same(tmp_path, whole("llama"))


def test_killed_while_its_worker_lives(corpus, whole, tmp_path):
    """The process that reads ahead outlives its parent for seconds, and must not keep the folder to itself."""
    file = file_of(tmp_path, corpus, stream={"workers": 1})
    run = started(tmp_path, file)
    until(run, lambda: seen(tmp_path) >= 6)
    (worker,) = psutil.Process(run.processes[0].pid).children()
    worker.suspend()
    run.kill()
    try:
        finish(tmp_path, file)
    finally:
        worker.kill()
    assert_the_same(tmp_path, whole("llama"))


def test_the_same_command_twice_at_once(corpus, whole, tmp_path):
    file = file_of(tmp_path, corpus)
    run = started(tmp_path, file)
    until(run, lambda: seen(tmp_path) >= 6)
    run.send(signal.SIGSTOP)  # so that it is not done before the others have begun
    for more in ([], ["--fresh"]):
        other = Run(["train", str(file), *more], tmp_path / "other")
        assert other.wait() == 2, other.text()
        assert "another command is training in" in other.text()
    run.send(signal.SIGCONT)
    assert run.wait() == 0, run.text()
    assert_the_same(tmp_path, whole("llama"))
    assert not (tmp_path / "out-run" / ".lock").exists()


def test_a_run_that_fails_at_its_start_leaves_nothing(corpus, tmp_path):
    run = started(tmp_path, file_of(tmp_path, corpus, checkpoints={"every_steps": 4, "keep": 10**9}))
    assert run.wait() == 2, run.text()
    assert "are free" in run.text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "run.toml"]


def seen(folder: Path) -> int:
    return step_of(folder / "out-run")


def log_of(folder: Path) -> str:
    return (folder / "out-run" / "run.log").read_text()


def saved(folder: Path) -> dict[str, bytes]:
    """Every file of every checkpoint."""
    files = (p for c in (folder / "out-run").glob("checkpoint-*") for p in c.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def fill(file: Path) -> None:
    """Write until there is no room left."""
    with file.open("wb", buffering=0) as stream:
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while stream.write(bytes(size)):
                    pass
    assert shutil.disk_usage(file.parent).free < 2**13
