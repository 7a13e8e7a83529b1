"""Rows and tokens a second from a corpus to batches: memsinks' stream against `datasets` and a padding collator.

All rivals read the same tokenised stories (those shipped with the package) from disk, in a shuffled order, through a
torch DataLoader, with and without a worker process. Every round runs each rival once, so that a slow minute of the
machine does not fall on one of them alone; the figures are medians over rounds. Where a step takes several
micro-batches, what dealing rows out by length saves in padding is counted too. Prints a table, and writes them to
stream.json beside this file (--json FILE for another; --quick, a smoke run, writes only where it is told to).
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare, read_documents
from memsinks.data import story_file
from memsinks.experiments.quickstart import QuickstartConfig
from memsinks.stream import Collator, ExposurePlan
from memsinks.stream.rows import Rows
from memsinks.training.batches import RankBatches
from memsinks.training.run import pad_id

SHAPE = QuickstartConfig()
MULTIPLE = 16
"""Widths of padded batches are multiples of this, for every rival: what training does."""

STEP, MICRO = 64, 16
"""Rows of a step and of a micro-batch, where micro-batches are compared."""

RIVAL = "datasets + padding"
LAYOUTS = ("one document a row", "packed")


def story_corpus(directory: Path, stories: int) -> Corpus:
    """Shipped stories of the quickstart's lengths, with a tokenizer of the quickstart's size, none held out."""
    columns = Columns(source="source", metadata=("set",))
    found = [d for d in read_documents([story_file()], columns) if SHAPE.shortest <= len(d.text) <= SHAPE.longest]
    chosen = np.sort(np.random.default_rng(0).permutation(len(found))[:stories])
    records = [{"id": d.name, "source": d.source, "text": d.text, **d.metadata} for d in (found[i] for i in chosen)]
    settings = PrepareConfig(columns=columns, groups=None, vocab_size=SHAPE.vocabulary, validation_fraction=0.0)
    return prepare(datasets.Dataset.from_list(records), directory, settings, progress=False)


def versions() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    names = ("memsinks", "torch", "transformers", "datasets", "grain")
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "processor": platform.processor() or platform.machine(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


class DatasetsRows:
    """What the rival reads: `datasets` rows of input IDs, each document cut into pieces of at most ``length``."""

    def __init__(self, corpus: Corpus, directory: Path, length: int) -> None:
        pieces = []
        for i in range(len(corpus)):
            tokens = corpus.tokens(i)
            pieces += [tokens[start : start + length].tolist() for start in range(0, len(tokens), length)]
        datasets.Dataset.from_dict({"input_ids": pieces}).save_to_disk(str(directory))
        self.data = datasets.load_from_disk(str(directory))
        self.collator = DataCollatorWithPadding(corpus.tokenizer, pad_to_multiple_of=MULTIPLE)
        if corpus.tokenizer.pad_token is None:
            corpus.tokenizer.pad_token = corpus.tokenizer.eos_token

    def loader(self, batch_size: int, workers: int, seed: int) -> DataLoader:
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(
            self.data,
            batch_size=batch_size,
            shuffle=True,
            collate_fn=self.collator,
            num_workers=workers,
            generator=generator,
        )


def stream_rows(corpus: Corpus, length: int, packed: bool, seed: int) -> Rows:
    """The rows that training reads, every document once."""
    return Rows(
        corpus,
        ExposurePlan.once(corpus),
        seed=seed,
        max_length=length,
        packed=packed,
        governed=np.ones(len(corpus), dtype=bool),
    )


def micro_batches(corpus: Corpus, length: int) -> dict[str, Any]:
    """What padding costs where a step takes several micro-batches: rows as they come, and dealt out by length.

    Counted, not timed: an epoch's token slots, one document a row.
    """
    rows = stream_rows(corpus, length, packed=False, seed=0)
    tokens, multiple, slots = rows.lengths, math.gcd(length, MULTIPLE), {}
    for name, lengths in (("as they come", None), ("by length", tokens)):
        batches = RankBatches(len(rows), batch_size=STEP, micro_batch_size=MICRO, lengths=lengths)
        slots[name] = sum(len(b) * -(-int(tokens[b].max()) // multiple) * multiple for b in batches if b)
    return {
        "batch_size": STEP,
        "micro_batch_size": MICRO,
        "padding_share": {name: 1 - int(tokens.sum()) / found for name, found in slots.items()},
        "slots, by length / as they come": slots["by length"] / slots["as they come"],
    }


def memsinks_loader(corpus: Corpus, length: int, packed: bool, batch_size: int, workers: int, seed: int) -> DataLoader:
    """The loader that SinkTrainer builds, on one rank."""
    rows = stream_rows(corpus, length, packed, seed)
    return DataLoader(
        rows,
        batch_sampler=RankBatches(len(rows), batch_size=batch_size, micro_batch_size=batch_size),
        collate_fn=Collator(pad_id(corpus), with_exposures=True, pad_to_multiple_of=math.gcd(length, MULTIPLE)),
        num_workers=workers,
        generator=torch.Generator(),
    )


def drain(loader: DataLoader) -> tuple[float, float, int, int, int]:
    """Read a loader to its end.

    Returns:
        seconds until the first batch, seconds from then on, and rows, real tokens and slots of the batches after it:
        starting a worker takes longer than reading this little text, and is paid once a run.
    """
    started = time.perf_counter()
    batches: Iterator[Any] = iter(loader)
    next(batches)
    first = time.perf_counter()
    rows = slots = tokens = 0
    for batch in batches:
        inputs = batch["input_ids"]
        rows += inputs.shape[0]
        slots += inputs.numel()
        # All documents here are governed, so the mask marks what is not padding.
        tokens += int((batch["sink_mask"] if "sink_mask" in batch else batch["attention_mask"]).sum())
    return first - started, time.perf_counter() - first, rows, tokens, slots


def measure(corpus: Corpus, directory: Path, *, length: int, batch_size: int, rounds: int) -> dict[str, Any]:
    rival = DatasetsRows(corpus, directory, length)
    makers = {f"{name} | {workers} workers": (name, workers) for workers in (0, 1) for name in (RIVAL, *LAYOUTS)}

    def loader(name: str, workers: int, seed: int) -> DataLoader:
        if name == RIVAL:
            return rival.loader(batch_size, workers, seed)
        return memsinks_loader(corpus, length, name == "packed", batch_size, workers, seed)

    figures: dict[str, list[dict[str, float]]] = {key: [] for key in makers}
    # One round more, first, to warm up.
    for number in range(rounds + 1):
        for key, (name, workers) in makers.items():
            started = time.perf_counter()
            made = loader(name, workers, number)
            planned = time.perf_counter() - started
            wait, seconds, rows, tokens, slots = drain(made)
            if number:
                figures[key].append(
                    {
                        "rows_per_second": rows / seconds,
                        "tokens_per_second": tokens / seconds,
                        "padding_share": 1 - tokens / slots,
                        "seconds_to_build": planned,
                        "seconds_to_first_batch": wait,
                    }
                )
    medians = {
        key: {name: statistics.median(entry[name] for entry in entries) for name in entries[0]}
        for key, entries in figures.items()
    }
    ratios = {}
    for workers in (0, 1):
        base = figures[f"{RIVAL} | {workers} workers"]
        for layout in LAYOUTS:
            own = figures[f"{layout} | {workers} workers"]
            for unit in ("rows_per_second", "tokens_per_second"):
                if layout == "packed" and unit == "rows_per_second":
                    continue  # its rows hold more
                values = [a[unit] / b[unit] for a, b in zip(own, base, strict=True)]
                ratios[f"{layout} / {RIVAL}, {workers} workers, {unit}"] = {
                    "median": statistics.median(values),
                    "min": min(values),
                    "max": max(values),
                }
    return {"figures": medians, "ratios": ratios}


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table("stream", "workers", "rows/s", "tokens/s", "padding", "build s", "first batch s")
    for key, f in result["figures"].items():
        name, workers = key.split(" | ")
        table.add_row(
            name,
            workers.split()[0],
            f"{f['rows_per_second']:,.0f}",
            f"{f['tokens_per_second']:,.0f}",
            f"{f['padding_share']:.1%}",
            f"{f['seconds_to_build']:.3f}",
            f"{f['seconds_to_first_batch']:.3f}",
        )
    console.print(table)
    ratios = Table("ratio", "median", "min", "max")
    for name, r in result["ratios"].items():
        ratios.add_row(name, *(f"{r[k]:.2f}" for k in ("median", "min", "max")))
    console.print(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go; default stream.json beside this file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few stories, one round")
    options = parser.parse_args()
    stories, length = (256, SHAPE.max_length) if options.quick else (5000, SHAPE.max_length)
    rounds = 1 if options.quick else options.rounds
    # Documents are short beside a row of this length, so that packing has something to pack.
    lengths = [length] if options.quick else [length, 1024]
    torch.set_num_threads(2)
    results = {}
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        corpus = story_corpus(Path(folder) / "corpus", stories)
        dealt = micro_batches(corpus, length)
        print(f"padding, {STEP} rows a step in micro-batches of {MICRO}: {dealt}")
        for row in lengths:
            # As many tokens a batch in either case.
            batch_size = SHAPE.batch_size * length // row
            print(f"rows of at most {row} tokens, {batch_size} rows a batch, {len(corpus)} documents", flush=True)
            result = measure(corpus, Path(folder) / f"rival-{row}", length=row, batch_size=batch_size, rounds=rounds)
            show(result)
            results[str(row)] = {"batch_size": batch_size, "documents": len(corpus), **result}
    target = options.json or (None if options.quick else Path(__file__).with_suffix(".json"))
    if target:
        target.write_text(
            json.dumps(versions() | {"rounds": rounds, "micro_batches": dealt, "by_row_length": results}, indent=1)
            + "\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
