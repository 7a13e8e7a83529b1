"""Megabytes of text a second from JSON lines to tokens: `memsinks prepare` against `datasets.map` and datatrove.

All read the same files with the same tokenizer and the same number of processes, each in a process of its own, and
write tokens: memsinks with IDs, once without and once with near-duplicates, shared passages and groups; the rivals
without either. Every round runs each once. Then memsinks alone, at one, four and sixteen times the text: the largest
memory of any of its processes. Prints tables, and writes them to prepare.json beside this file (--json FILE for
another; --quick, a smoke run, writes only where it is told to).
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from stream import versions

from memsinks.corpus import Local, PrepareConfig, prepare, read_documents, train_tokenizer
from memsinks.data import general_file

FILES = 8
OURS, GROUPED, DATASETS, DATATROVE = "memsinks", "memsinks, with groups", "datasets.map", "datatrove"


def ours(inputs: Path, output: Path, tokenizer: Path, workers: int, *, grouped: bool) -> None:
    options: dict[str, Any] = {} if grouped else {"groups": None}
    config = PrepareConfig(tokenizer=tokenizer, validation_fraction=0.0, **options)
    prepare(inputs, output, config, executor=Local(workers))


def with_datasets(inputs: Path, output: Path, tokenizer: Path, workers: int) -> None:
    import datasets
    from transformers import AutoTokenizer

    encode = AutoTokenizer.from_pretrained(tokenizer)
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


def write_text(folder: Path, megabytes: float) -> int:
    """General text in files of JSON lines; beyond what is shipped the texts come again, each with a word of its own."""
    texts = [d.text for d in read_documents([general_file()])]
    folder.mkdir()
    files = [(folder / f"{i:02d}.jsonl").open("w", encoding="utf-8") for i in range(FILES)]
    size = number = 0
    while size < megabytes * 1e6:
        text = texts[number % len(texts)]
        if number >= len(texts):
            text = " ".join(f"{word} copy{number}" if i % 3 == 0 else word for i, word in enumerate(text.split(" ")))
        files[number % FILES].write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
        size += len(text.encode())
        number += 1
    for file in files:
        file.close()
    return size


def timed(name: str, inputs: Path, output: Path, tokenizer: Path, workers: int) -> dict[str, float]:
    """Run one in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(inputs), str(output), str(tokenizer), str(workers)]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    shutil.rmtree(output)
    return json.loads(found.stdout.splitlines()[-1])


def one(name: str, inputs: str, output: str, tokenizer: str, workers: str) -> None:
    folder = Path(output)
    if name in (DATASETS, DATATROVE):
        folder.mkdir()
    started = time.perf_counter()
    RUNS[name](Path(inputs), folder, Path(tokenizer), int(workers))
    seconds = time.perf_counter() - started
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"seconds": seconds, "peak_mb": max(peaks)}))


def measure(folder: Path, megabytes: float, rounds: int, sizes: tuple[float, ...]) -> dict[str, Any]:
    workers = len(os.sched_getaffinity(0))
    tokenizer = folder / "tokenizer"
    texts = [d.text for d in read_documents([general_file()])][:400]
    train_tokenizer(texts, 8192).save_pretrained(tokenizer)
    size = write_text(folder / "text", megabytes)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for number in range(rounds):
        for name in RUNS:
            runs[name].append(timed(name, folder / "text", folder / f"out-{number}", tokenizer, workers))
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
    memory = {}
    for megabytes in sizes:
        text = folder / f"text-{megabytes:g}"
        bytes_ = write_text(text, megabytes)
        run = timed(GROUPED, text, folder / "out", tokenizer, workers)
        memory[f"{megabytes:g}"] = {"megabytes": bytes_ / 1e6, "peak_mb": run["peak_mb"], "seconds": run["seconds"]}
        shutil.rmtree(text)
    found = versions()
    found["versions"] |= {name: version(name) for name in ("datatrove", "rensa", "tokenizers")}
    return {
        "megabytes": size / 1e6,
        "processes": workers,
        "figures": figures,
        "ratios": ratios,
        "memory": memory,
        **found,
    }


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table("", "MB/s", "largest process, MB", title=f"{result['megabytes']:.0f} MB of text")
    for name, f in result["figures"].items():
        table.add_row(name, f"{f['megabytes_per_second']:.2f}", f"{f['peak_mb']:,.0f}")
    console.print(table)
    ratios = Table("ratio of speed", "median", "min", "max")
    for name, r in result["ratios"].items():
        ratios.add_row(name, *(f"{r[k]:.2f}" for k in ("median", "min", "max")))
    console.print(ratios)
    memory = Table("text, MB", "largest process, MB", "seconds", title=GROUPED)
    for f in result["memory"].values():
        memory.add_row(f"{f['megabytes']:.0f}", f"{f['peak_mb']:,.0f}", f"{f['seconds']:.0f}")
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
        size, rounds, sizes = (1.0, 1, (1.0, 2.0)) if arguments.quick else (24.0, 3, (12.0, 48.0, 192.0))
        result = measure(Path(folder), size, rounds, sizes)
    show(result)
    target = arguments.json or (None if arguments.quick else Path(__file__).with_suffix(".json"))
    if target is not None:
        target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
