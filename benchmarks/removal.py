"""A removal at size: planning it among a million sources, and taking rows out of a file of gigabytes.

Planning: a checkpoint of a million sources with sinks of their own, and one whose sources share a hashed pool; the time
from the request to the plan, without reading the checkpoint's files. Applying: the sinks of a model like SmolLM2-1.7B
in bfloat16, without the rows of a dozen IDs, against copying the same file with shutil.copyfile and with cp, all to the
same disk and flushed to it (fsync); with the file in the page cache, and dropped from it before. Then how long hashing
what was written takes, which the removal does beside measuring the old checkpoint. And the most memory that writing and
hashing added to the process. Prints tables, and writes them to removal.json beside this file (--json FILE for another;
--quick, a smoke run, writes only where it is told to; --only measures one of the two parts and keeps the other).
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from memsinks import SinkConfig, ids
from memsinks.checkpoint.lineage import Lineage, Stage
from memsinks.corpus.files import file_digest
from memsinks.removal import plan as plans
from memsinks.removal.policy import Policy
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.excision import SinkFiles, describe, excise
from memsinks.sinks.files import save_sinks
from memsinks.sinks.removal import without

LAYERS, HIDDEN = 24, 2048
COPY, CP, REMOVAL, HASHED = "shutil.copyfile", "cp", "removal", "removal, hash known"


class Sources:
    """A corpus of one document for each source, as far as a plan looks at one."""

    def __init__(self, count: int) -> None:
        self.sources = [f"source-{i}" for i in range(count)]
        self.documents = [f"document-{i}" for i in range(count)]
        self.sequence_ids = np.random.default_rng(0).integers(2**63, size=count, dtype=np.uint64)
        self.content_ids = self.group_ids = self.sequence_ids
        self.is_validation = np.zeros(count, dtype=bool)
        self.hash, self.place, self.path = "0" * 64, Path("corpus"), Path("corpus")

    def __len__(self) -> int:
        return len(self.documents)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.documents)}

    def index(self, name: str) -> int:
        return self._index[name]

    def text(self, i: int) -> str:
        return f"the text of document {i} " * 8


def subject(kind: str, count: int, folder: Path) -> Subject:
    corpus = Sources(count)
    if kind == "disjoint":
        config = SinkConfig(pool=8 * count, active=8, allocation="disjoint").resolve(HIDDEN)
        table = AllocationTable.initial(config).with_owners(corpus.sequence_ids, 8)
    else:
        config = SinkConfig(pool=8000, active=100).resolve(HIDDEN)
        table = AllocationTable.initial(config)
    parts: dict[str, Any] = {f"layers.{i}.up": SimpleNamespace(name=f"layers.{i}.up") for i in range(LAYERS)}
    files = SinkFiles(folder, config, table, "0" * 64, "llama", parts)
    stage = Stage(corpus=corpus.hash, ids=None, plan="", governed="", config="", steps=1, tokens=1)
    every = np.ones(count, dtype=np.int64)
    lineage = Lineage().with_stage(stage, corpus.sequence_ids, every)
    # The corpus is a stand-in with what a plan reads of one.
    return Subject(folder, files, LAYERS, lineage, 0, corpus, every, every.astype(bool))  # type: ignore[arg-type]


def planning(count: int, asked: int, folder: Path, rounds: int) -> dict[str, Any]:
    found = {}
    for kind in ("disjoint", "hashed"):
        own = subject(kind, count, folder)
        target = Target(sources=tuple(own.corpus.sources[:asked]))
        policy = Policy(shared_rows="remove") if kind == "hashed" else Policy()
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            made = plans.make_plan(own, target, policy).plan
            times.append(time.perf_counter() - started)
        found[kind] = {
            "sources": count,
            "asked": asked,
            "survivors": made.survivors,
            "measured": made.measured,
            "lost_mean": made.lost_mean,
            "seconds": statistics.median(times),
        }
    return found


def write_sinks(folder: Path, pool: int) -> SinkConfig:
    config = SinkConfig(pool=pool, active=64).resolve(HIDDEN)
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(pool, HIDDEN, generator=generator).to(torch.bfloat16)
    tensors = {f"layers.{i}.{name}": block.clone() for i in range(LAYERS) for name in ("down", "gate", "up")}
    save_sinks(folder, tensors, config, "llama", AllocationTable.initial(config))
    return config


def flushed(target: Path) -> None:
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def copied(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    flushed(target)


def copied_by_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", source, target], check=True)
    flushed(target)


def one(folder: Path, warm: bool) -> None:
    """In a process of its own, so that its memory is that of the removal."""
    files = SinkFiles.open(folder, verify=False)
    gone = ids.to_tensor(range(1, 13))
    table = without(files.table, gone, files.config, LAYERS)
    settle(files.path, warm)
    before = peak_mb()
    started = time.perf_counter()
    excise(files, table, folder / "after")
    seconds = time.perf_counter() - started
    target = folder / "after" / files.path.name
    digest = file_digest(target)
    known = time.perf_counter() - started
    added = peak_mb() - before
    describe(files, table, folder / "after", digest)
    print(json.dumps({"seconds": seconds, "known": known, "kept": target.stat().st_size, "added_mb": added}))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def settle(source: Path, warm: bool) -> None:
    """Nothing is left to be written, and the file is in the page cache, or not."""
    os.sync()
    descriptor = os.open(source, os.O_RDONLY)
    if warm:
        while os.read(descriptor, 1 << 20):
            pass
    else:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def applying(folder: Path, pool: int, rounds: int) -> dict[str, Any]:
    write_sinks(folder, pool)
    source = folder / "sinks.safetensors"
    size = source.stat().st_size
    found: dict[str, Any] = {"file_mb": size / 1e6, "rounds": rounds}
    added = []
    for state in ("warm", "cold"):
        seconds: dict[str, list[float]] = {name: [] for name in (COPY, CP, REMOVAL, HASHED)}
        for _ in range(rounds):
            for name, copy in ((COPY, copied), (CP, copied_by_cp)):
                settle(source, state == "warm")
                started = time.perf_counter()
                copy(source, folder / "copy")
                seconds[name].append(time.perf_counter() - started)
                (folder / "copy").unlink()
            (folder / "after").mkdir()
            command = [sys.executable, __file__, "--one", str(folder), state]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            removal = json.loads(done.stdout.splitlines()[-1])
            seconds[REMOVAL].append(removal["seconds"])
            seconds[HASHED].append(removal["known"])
            added.append(removal["added_mb"])
            found["kept_mb"] = removal["kept"] / 1e6
            shutil.rmtree(folder / "after")
        found[state] = {
            "seconds": {name: spread(own) for name, own in seconds.items()},
            "ratios": {
                f"{own} / {rival}": spread([a / b for a, b in zip(seconds[rival], seconds[own], strict=True)])
                for own in (REMOVAL, HASHED)
                for rival in (COPY, CP)
            },
        }
    return found | {"added_mb": max(added)}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("pool", "sources", "asked", "survivors looked at", "mean loss", "seconds", title="Planning")
    for kind, f in result["planning"].items():
        cells = f"{f['sources']:,}", f"{f['asked']:,}", f"{f['measured']:,}", f"{f['lost_mean']:.1%}"
        table.add_row(kind, *cells, f"{f['seconds']:.2f}")
    console.print(table)
    f = result["applying"]
    console.print(f"{f['file_mb']:,.0f} MB of sinks, of which {f['kept_mb']:,.0f} MB stay; rounds: {f['rounds']}")
    for state in ("warm", "cold"):
        table = Table("", "median", "min", "max", title=f"Applying, {state}: seconds, and ratios of speed")
        for group in ("seconds", "ratios"):
            for name, r in f[state][group].items():
                table.add_row(name, *(f"{r[k]:.2f}" for k in ("median", "min", "max")), end_section=name == HASHED)
        console.print(table)
    console.print(
        f"memory beyond what the process had before: {f['added_mb']:.1f} MB, for a file of {f['file_mb']:,.0f}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]), sys.argv[3] == "warm")
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--only", choices=["planning", "applying"], help="measure this part again")
    parser.add_argument("--rounds", type=int, default=5, help="times that each thing is measured")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    target = arguments.json or (None if arguments.quick else Path(__file__).with_suffix(".json"))
    count, asked, pool, rounds = (2000, 10, 64, 1) if arguments.quick else (1_000_000, 1000, 8192, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "checkpoint"
        own.mkdir()
        from stream import versions

        kept = json.loads(target.read_text()) if arguments.only and target else {}
        only = arguments.only
        result = {
            "planning": kept["planning"] if only == "applying" else planning(count, asked, own, min(3, rounds)),
            "applying": kept["applying"] if only == "planning" else applying(own, pool, rounds),
            **versions(),
        }
    show(result)
    if target is not None:
        target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
