"""Train a model twice on the same stories, once killed five times, and compare the results bit by bit.

``python scripts/kill_and_resume.py stories.jsonl.zst`` writes results/resume/kill.json; it takes a few minutes on two
cores. It exits with 1 if a byte differs.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

RESULT = Path(__file__).parents[1] / "results" / "resume" / "kill.json"
KILLS, SEED = 5, 7
RUN = """
output = "OUTPUT"
seed = 5
[corpus]
path = "corpus"
[model]
hidden = 128
layers = 4
heads = 4
width = 384
[sinks]
pool = 1024
active = 102
[exposures]
repeat = REPEAT
times = 32
[stream]
packed = true
max_length = 128
[schedule]
batch_size = 8
steps = 160
warmup_steps = 20
[precision]
bf16 = false
[checkpoints]
every_steps = 15
[logging]
every_steps = 1
evaluate_every = 40
live = false
"""
ENVIRONMENT = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
CLOCK = ("time", "elapsed_seconds", "tokens_per_second", "waiting_share", "mfu")


def main() -> None:
    """Prepare, train, kill, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", type=Path, help="a .jsonl.zst of documents with id, source and text")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    stories = options.stories.resolve()
    commit = _commit()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("a") as log:
        os.chdir(folder)
        _finish(["prepare", str(stories), "--output", "corpus", "--vocab-size", "4096"], log)
        repeat = _training_documents(8)
        for name in ("whole", "killed"):
            Path(f"{name}.toml").write_text(RUN.replace("OUTPUT", name).replace("REPEAT", json.dumps(repeat)))
        steps = tomllib.loads(Path("whole.toml").read_text())["schedule"]["steps"]
        started = time.monotonic()
        _finish(["train", "whole.toml"], log)
        seconds = time.monotonic() - started
        kills = _killed(steps, log)
        whole, killed = _hashes("whole", steps), _hashes("killed", steps)
        record = json.loads(Path("whole/run.json").read_text())
        result = {
            "format": "memsinks-kill-and-resume",
            "format_version": 1,
            "identical": whole == killed,
            "kills": kills,
            "files": {"whole": whole, "killed": killed},
            "parameters": _parameters(Path("whole")),
            "steps": steps,
            "tokens": record["tokens"],
            "padding_share": record["padding_share"],
            "waiting_share": record["waiting_share"],
            "seconds_of_the_whole_run": round(seconds, 1),
            "data": {"name": stories.name, "sha256": _sha256(stories.read_bytes())},
            "config": tomllib.loads(Path("whole.toml").read_text()),
            "seed_of_the_kills": SEED,
            "threads": int(ENVIRONMENT["OMP_NUM_THREADS"]),
            "machine": {"system": platform.system(), "processor": platform.machine()},
            "commit": commit,
            "versions": record["versions"] | {"safetensors": version("safetensors")},
        }
        os.chdir("/")
    options.result.parent.mkdir(parents=True, exist_ok=True)
    options.result.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{options.result}: {len(kills)} kills, {'identical' if result['identical'] else 'NOT identical'}")
    sys.exit(0 if result["identical"] else 1)


def _killed(steps: int, log: Any) -> list[dict[str, Any]]:
    """Run until it is done, killed at random moments; one of them while a checkpoint is being written."""
    rng = random.Random(SEED)
    after = sorted(rng.sample(range(2, steps - 10), KILLS))
    in_checkpoint = rng.randrange(KILLS)
    kills: list[dict[str, Any]] = []
    for number, step in enumerate(after):
        process = _memsinks(["train", "killed.toml"], log)
        while _step() < step:
            _still(process)
        if number == in_checkpoint:
            while not Path("killed-run/.writing").exists():
                _still(process)
            time.sleep(rng.random() * 0.03)
        else:
            time.sleep(rng.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        writing = sorted(p.name for p in Path("killed-run").glob(".writing/*"))
        kills.append(
            {
                "drawn": f"while a checkpoint is written, after step {step}" if number == in_checkpoint
                else f"after step {step}",
                "steps_logged": _step(),
                "where": f"writing {writing[0]}: {', '.join(_names(writing[0])) or 'nothing yet'}"
                if writing else "between checkpoints",
                "goes_on_from": _newest(),
            }
        )  # fmt: skip
    _finish(["train", "killed.toml"], log)
    return kills


def _names(checkpoint: str) -> list[str]:
    return sorted(p.name for p in Path("killed-run/.writing", checkpoint).iterdir())


def _still(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        raise SystemExit(f"the run ended before it could be killed:\n{Path('log').read_text()[-2000:]}")
    time.sleep(0.002)


def _step() -> int:
    entries = _entries(Path("killed-run/metrics.jsonl"))
    return max((entry["step"] for entry in entries), default=0)


def _newest() -> str | None:
    found = [p.name for p in Path("killed-run").glob("checkpoint-*")]
    return max(found, key=lambda name: int(name.split("-")[1]), default=None)


def _entries(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    lines = file.read_text().split("\n")[1:-1]
    return [json.loads(line) for line in lines]


def _hashes(name: str, steps: int) -> dict[str, str]:
    """Of the model, and of what only a checkpoint holds; of metrics without the clock."""
    checkpoint = Path(f"{name}-run/checkpoint-{steps}")
    files = [Path(name) / f for f in ("model.safetensors", "sinks.safetensors", "sinks.json", "exposures.parquet")]
    files += [checkpoint / "optimizer.safetensors", checkpoint / "optimizer.json"]
    lasting = [{k: v for k, v in e.items() if k not in CLOCK} for e in _entries(Path(name) / "metrics.jsonl")]
    hashes = {file.name: _sha256(file.read_bytes()) for file in files}
    return hashes | {"metrics.jsonl without times": _sha256(json.dumps(lasting).encode())}


def _commit() -> str | None:
    """Of the code, "-dirty" if a file was changed since; None outside a repository."""
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=here, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _parameters(folder: Path) -> dict[str, int]:
    counts = {}
    for part in ("model", "sinks"):
        tensors = load_file(folder / f"{part}.safetensors")
        counts[part] = sum(value.size for value in tensors.values() if value.dtype.kind == "f")
    return {"shared": counts["model"], "sinks": counts["sinks"], "all": sum(counts.values())}


def _training_documents(count: int) -> list[str]:
    from memsinks.corpus import Corpus

    corpus = Corpus.open("corpus")
    return [d for d, held in zip(corpus.documents, corpus.is_validation, strict=True) if not held][:count]


def _finish(arguments: list[str], log: Any) -> None:
    if _memsinks(arguments, log).wait():
        raise SystemExit(f"memsinks {' '.join(arguments)} failed:\n{Path('log').read_text()[-2000:]}")


def _memsinks(arguments: list[str], log: Any) -> subprocess.Popen:
    command = [sys.executable, "-m", "memsinks", *arguments]
    return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | ENVIRONMENT)


if __name__ == "__main__":
    main()
