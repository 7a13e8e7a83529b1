"""Megabytes of text a second from JSON lines to tokens: `memsinks prepare` against `datasets.map` and datatrove.

All read the same files with the same tokenizer and the same number of processes, each in a process of its own, which
imports what it needs and no more, and write tokens: memsinks with IDs, once without and once with near-duplicates,
shared passages and groups; the rivals without either. Every round runs each once. Long documents first, then short
ones, and of these less and more, since with little text the start of processes counts. Then memsinks alone, with more
and more text: the largest memory of any of its processes. Prints tables, and writes them to prepare.json beside this
file (--json FILE for another; --quick, a smoke run, writes only where it is told to).
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Nothing else up here: the processes that are timed import this file, and pay for it in time and memory.

FILES = 8
TEXTS: dict[str, int | None] = {"long": None, "short": 170}
"""Words of a document; None for the shipped texts as they are."""
OURS, GROUPED, DATASETS, DATATROVE = "memsinks", "memsinks, with groups", "datasets.map", "datatrove"


def ours(inputs: Path, output: Path, tokenizer: Path, workers: int, *, grouped: bool) -> None:
    from memsinks.corpus import Local, PrepareConfig, prepare

    options: dict[str, Any] = {} if grouped else {"groups": None}
    config = PrepareConfig(tokenizer=tokenizer, validation_fraction=0.0, **options)
    prepare(inputs, output, config, executor=Local(workers))


def with_datasets(inputs: Path, output: Path, tokenizer: Path, workers: int) -> None:
    import datasets
    from transformers import PreTrainedTokenizerFast

    encode = PreTrainedTokenizerFast.from_pretrained(tokenizer)  # AutoTokenizer would import torch to find this class
    files = [str(file) for file in sorted(inputs.iterdir())]
    rows = datasets.load_dataset(
        "json", data_files=files, split="train", num_proc=workers, cache_dir=str(output / "cache")
    )

    def tokens(batch: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": encode(batch["text"], add_special_tokens=False, return_attention_mask=False)["input_ids"]}

    done = rows.map(tokens, batched=True, batch_size=64, num_proc=workers, remove_columns=["text"])
    done.save_to_disk(str(output / "tokens"))


def with_datatrove(inputs: Path, output: Path, tokenizer: Path, workers: int) -> None:
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer

    steps = [
        JsonlReader(str(inputs), doc_progress=False),
        DocumentTokenizer(
            str(output / "tokens"), str(tokenizer / "tokenizer.json"), shuffle_documents=False, batch_size=64
        ),
    ]
    LocalPipelineExecutor(steps, tasks=FILES, workers=workers, logging_dir=str(output / "logs")).run()


RUNS = {
    OURS: lambda *arguments: ours(*arguments, grouped=False),
    GROUPED: lambda *arguments: ours(*arguments, grouped=True),
    DATASETS: with_datasets,
    DATATROVE: with_datatrove,
}


def shipped() -> list[str]:
    from memsinks.corpus import read_documents
    from memsinks.data import general_file

    return [d.text for d in read_documents([general_file()])]


def write_text(folder: Path, megabytes: float, words: int | None) -> int:
    """General text in files of JSON lines; beyond what is shipped the texts come again, each with a word of its own."""
    texts = shipped()
    if words is not None:
        split = [text.split(" ") for text in texts]
        cut = [" ".join(own[i : i + words]) for own in split for i in range(0, len(own), words)]
        texts = [text for text in cut if text.strip()]
    folder.mkdir()
    files = [(folder / f"{i:02d}.jsonl").open("w", encoding="utf-8") for i in range(FILES)]
    size = number = 0
    while size < megabytes * 1e6:
        text, copy = texts[number % len(texts)], number // len(texts)
        if copy:
            # A third of the words, so that copies share no passage and are no near-duplicates.
            mark = f"copy{number if words is None else copy}"
            text = " ".join(f"{word} {mark}" if i % 3 == 0 else word for i, word in enumerate(text.split(" ")))
        files[number % FILES].write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
        size += len(text.encode())
        number += 1
    for file in files:
        file.close()
    return size


def timed(name: str, inputs: Path, output: Path, tokenizer: Path, workers: int) -> dict[str, float]:
    """Run one in a process of its own, and watch how much memory it and its descendants take at most."""
    command = [sys.executable, __file__, "--one", name, str(inputs), str(output), str(tokenizer), str(workers)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}  # there is a process for every core
    peak = 0.0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        while process.poll() is None:
            peak = max(peak, *map(peak_mb, tree(process.pid)))
            time.sleep(0.05)
        assert process.stdout is not None
        assert process.returncode == 0, name
        found = json.loads(process.stdout.read().splitlines()[-1])
    shutil.rmtree(output)
    return {"seconds": found["seconds"], "peak_mb": max(peak, found["peak_mb"])}


def tree(pid: int) -> Iterator[int]:
    """A process and all that it started, as far as they live."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue
        for child in found:
            yield from tree(int(child))


def peak_mb(pid: int | str) -> float:
    """The most memory that a process has had so far."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def one(name: str, inputs: str, output: str, tokenizer: str, workers: str) -> None:
    started = time.perf_counter()
    folder = Path(output)
    if name in (DATASETS, DATATROVE):
        folder.mkdir()
    RUNS[name](Path(inputs), folder, Path(tokenizer), int(workers))
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_mb": peak_mb("self")}))


def compare(text: Path, size: int, tokenizer: Path, workers: int, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for number in range(rounds):
        for name in RUNS:
            runs[name].append(timed(name, text, text.with_name(f"out-{number}"), tokenizer, workers))
    speeds = {name: [size / 1e6 / run["seconds"] for run in found] for name, found in runs.items()}
    figures = {
        name: {
            "megabytes_per_second": statistics.median(speeds[name]),
            "peak_mb": statistics.median(run["peak_mb"] for run in found),
        }
        for name, found in runs.items()
    }
    ratios = {}
    for own, rival in ((OURS, DATASETS), (OURS, DATATROVE), (GROUPED, OURS)):
        values = [a / b for a, b in zip(speeds[own], speeds[rival], strict=True)]
        ratios[f"{own} / {rival}"] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {"megabytes": size / 1e6, "documents": documents(text), "figures": figures, "ratios": ratios}


def documents(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.iterdir())


def measure(folder: Path, rounds: int, sizes: dict[str, dict[str, tuple[float, ...]]]) -> dict[str, Any]:
    from stream import versions

    from memsinks.corpus import train_tokenizer

    workers = len(os.sched_getaffinity(0))
    tokenizer = folder / "tokenizer"
    train_tokenizer(shipped()[:400], 8192).save_pretrained(tokenizer)
    found: dict[str, Any] = {"processes": workers}
    for kind, words in TEXTS.items():
        text = folder / kind
        speed, memory = {}, {}
        for wanted in sizes[kind]["speed"]:
            size = write_text(text, wanted, words)
            speed[f"{wanted:g}"] = compare(text, size, tokenizer, workers, rounds)
            shutil.rmtree(text)
        for wanted in sizes[kind]["memory"]:
            size = write_text(text, wanted, words)
            run = timed(GROUPED, text, folder / "out", tokenizer, workers)
            memory[f"{wanted:g}"] = {"megabytes": size / 1e6, "documents": documents(text), **run}
            shutil.rmtree(text)
        found[kind] = {"speed": speed, "memory": memory}
    found |= versions()
    found["versions"] |= {name: version(name) for name in ("datatrove", "rensa", "tokenizers")}
    return found


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind in TEXTS:
        for own in result[kind]["speed"].values():
            title = f"{own['megabytes']:.0f} MB of text in {own['documents']:,} documents"
            table = Table("", "MB/s", "largest process, MB", title=title)
            for name, f in own["figures"].items():
                table.add_row(name, f"{f['megabytes_per_second']:.2f}", f"{f['peak_mb']:,.0f}")
            console.print(table)
            ratios = Table("ratio of speed", "median", "min", "max")
            for name, r in own["ratios"].items():
                ratios.add_row(name, *(f"{r[k]:.2f}" for k in ("median", "min", "max")))
            console.print(ratios)
        memory = Table("text, MB", "documents", "largest process, MB", "seconds", title=GROUPED)
        for f in result[kind]["memory"].values():
            cells = f"{f['megabytes']:.0f}", f"{f['documents']:,}", f"{f['peak_mb']:,.0f}", f"{f['seconds']:.0f}"
            memory.add_row(*cells)
        console.print(memory)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little text, one round")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.quick:
            little = {"speed": (1.0,), "memory": (1.0, 2.0)}
            result = measure(Path(folder), 1, dict.fromkeys(TEXTS, little))
        else:
            sizes = {
                "long": {"speed": (24.0,), "memory": (12.0, 48.0, 192.0, 384.0)},
                "short": {"speed": (24.0, 96.0), "memory": (12.0, 48.0, 192.0)},
            }
            result = measure(Path(folder), 3, sizes)
    show(result)
    target = arguments.json or (None if arguments.quick else Path(__file__).with_suffix(".json"))
    if target is not None:
        target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
