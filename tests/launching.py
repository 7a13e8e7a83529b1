"""``memsinks train`` in processes of its own, alone or as ranks, to compare and to kill.

They are forked from a server that has imported everything once, so that a start takes a second instead of ten. Ranks
get what torchrun would give them: an environment. Tests of signals use torchrun itself.
"""

import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import tomlkit

LIMIT = 300
"""Seconds after which a process is taken to hang."""
PATIENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

_context = multiprocessing.get_context("forkserver")

WORDS = ["the", "small", "boat", "went", "to", "sea", "and", "came", "back", "with", "fish", "for", "old", "friends"]

# Shapes that are quick to train; gradients that are zero but for rounding stay below eps, so that Adam does not turn
# rounding into steps of full size.
SMALL: dict[str, dict[str, Any]] = {
    "model": {"hidden": 32, "layers": 2, "heads": 2, "width": 48, "attention": "eager"},
    "sinks": {"pool": 64, "active": 16},
    "stream": {"max_length": 48},
    "optimizer": {"eps": 1e-4},
}


def write_corpus(root: Path, count: int = 60) -> tuple[Path, list[str]]:
    """A prepared corpus of short documents, and the names of two to repeat."""
    with (root / "stories.jsonl").open("w") as file:
        for i in range(count):
            length = 12 + (i * 17) % 50
            text = " ".join(WORDS[(i * 7 + j * (i + 3)) % len(WORDS)] for j in range(length)) + f" number {i}."
            file.write(json.dumps({"id": f"s{i}", "source": f"p{i % 3}", "text": text}) + "\n")
    # Word salad of few words is full of near-copies.
    options = ["--vocab-size", "300", "--validation", "0.1", "--no-near", "--output", str(root / "corpus")]
    done = Run(["prepare", str(root / "stories.jsonl"), *options], root / "prepare.log")
    assert done.wait() == 0, done.text()
    from memsinks.corpus import Corpus

    corpus = Corpus.open(root / "corpus")
    return root / "corpus", [d for d, held in zip(corpus.documents, corpus.is_validation, strict=True) if not held][:2]


def run_file(file: Path, corpus: tuple[Path, list[str]], output: str, more: dict[str, dict[str, Any]]) -> Path:
    """A run of a small model; ``more`` holds sections, or further keys of sections."""
    path, names = corpus
    content: dict[str, Any] = {"output": str(file.parent / output), "seed": 3, "corpus": {"path": str(path)}}
    given = [SMALL, {"exposures": {"repeat": names}}, more]
    for section in dict.fromkeys(key for part in given for key in part):
        content[section] = {key: value for part in given for key, value in part.get(section, {}).items()}
    file.write_text(tomlkit.dumps(content))
    return file


class Run:
    """The command line in one process, or in several that train together.

    Args:
        arguments: of ``memsinks``, or of ``target``.
        log: where standard output and error go, of all ranks.
        world: processes.
        file_limit: bytes past which the system refuses to write a file, as if the disk were full.
        target: what to run instead; returns the exit code.
    """

    def __init__(
        self,
        arguments: Any,
        log: Path,
        world: int = 1,
        *,
        file_limit: int | None = None,
        target: Callable[[Any], int] | None = None,
    ) -> None:
        self.log = log
        _start_server()
        port = str(_free_port())
        self.processes = []
        for rank in range(world):
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
            together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **{k: str(v) for k, v in ranks.items()}}
            environment = PATIENT | (together if world > 1 else {})
            process = _context.Process(
                target=_process, args=(target or _command, arguments, str(log), environment, file_limit)
            )
            process.start()
            self.processes.append(process)

    def wait(self) -> int:
        """Exit code of the first rank that failed, or 0."""
        for process in self.processes:
            process.join(LIMIT)
            if process.exitcode is None:
                self.kill()
                raise AssertionError(f"{self.log} did not end in {LIMIT} s:\n{self.text()}")
        return next((p.exitcode for p in self.processes if p.exitcode), 0)

    def alive(self) -> bool:
        return any(p.is_alive() for p in self.processes)

    def send(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.is_alive():
                os.kill(process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.join(LIMIT)

    def text(self) -> str:
        return self.log.read_text()


class TorchRun:
    """``torchrun -m memsinks``, as a user starts it."""

    def __init__(self, arguments: list[str], log: Path, world: int = 2) -> None:
        self.log = log
        torchrun = Path(sys.executable).with_name("torchrun")
        command = [torchrun, "--nproc-per-node", str(world), "--master-port", str(_free_port()), "-m", "memsinks"]
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [*map(str, command), *arguments], stdout=file, stderr=file, env=os.environ | PATIENT
            )

    def wait(self) -> int:
        return self.process.wait(LIMIT)

    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """All of it at once: torchrun starts its workers in sessions of their own."""
        everyone = [*psutil.Process(self.process.pid).children(recursive=True), self.process]
        for process in everyone:
            process.kill()
        self.process.wait(LIMIT)
        psutil.wait_procs(everyone[:-1], LIMIT)

    def text(self) -> str:
        return self.log.read_text()


def until(run: Run | TorchRun, condition: Callable[[], Any]) -> Any:
    """Wait for a moment in a run; it must not end before."""
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        assert run.alive(), f"the run ended too early:\n{run.text()}"
        assert time.monotonic() < end, f"waited in vain:\n{run.text()}"
        time.sleep(0.002)
    return found


def step_of(directory: Path) -> int:
    """The last step that ``metrics.jsonl`` tells of."""
    return max((entry["step"] for entry in entries(directory / "metrics.jsonl")), default=0)


def entries(file: Path) -> list[dict]:
    """Lines of ``metrics.jsonl`` that are whole, without the header."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text().split("\n")[1:]:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


TIMED = {"time", "elapsed_seconds", "tokens_per_second", "waiting_share", "mfu"}


def lasting(file: Path) -> list[dict]:
    """Entries without what depends on the clock."""
    return [{k: v for k, v in entry.items() if k not in TIMED} for entry in entries(file)]


def exposures(folder: Path) -> dict[int, int]:
    table = pq.read_table(folder / "exposures.parquet")
    counts = dict(zip(*(table[c].to_pylist() for c in ("sequence_id", "exposures")), strict=True))
    return counts | {-1: int(table.schema.metadata[b"tokens"])}


def _command(arguments: list[str]) -> int:
    from memsinks.cli import main

    return main(arguments)


def _process(target: Any, arguments: Any, log: str, environment: dict[str, str], file_limit: int | None) -> None:
    os.environ.update(environment)
    # Not the server's: workers of a loader are to be forked, as in a process from the command line.
    multiprocessing.set_start_method("fork", force=True)
    with Path(log).open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.exit(target(arguments))


@cache
def _start_server() -> None:
    # Python 3.11's server does not look for what it imports where this process does, and says nothing.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [before])])
    _context.set_forkserver_preload(["launching_preload"])
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
