"""Time and memory of one MLP with sinks: mask-and-multiply, gathered rows, and the plain shared MLP.

A shape is named "hidden: shared neurons + sinks, active sinks". Each row of the table runs in a process of its own, so
that its peak memory is its own, and runs again in each of --rounds passes over the table, so that a slow minute of
the machine does not fall on one row alone; the figures are medians. A step is forward, backward and the optimiser.
Prints JSON with --json FILE.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from memsinks import SinkAdamW, SinkConfig, attach
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.modes import OWN
from memsinks.sinks.routing import route

ROWS, TOKENS = 4, 512
SHAPES = {
    "1024: 2,867 + 1,229, 369 active (the paper's split)": (1024, 2867, 1229, 369),
    "960: 500 + 8,000, 100 active": (960, 500, 8_000, 100),
    "960: 500 + 64,000, 100 active": (960, 500, 64_000, 100),
}
VARIANTS = ("plain", "gathered", "dense")


def build(hidden: int, shared: int, pool: int, active: int, variant: str) -> tuple[nn.Module, SinkConfig | None]:
    config = LlamaConfig(
        vocab_size=8, hidden_size=hidden, intermediate_size=shared, num_hidden_layers=1, num_attention_heads=8
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    if variant == "plain":
        return model, None
    # The variants other than "plain" are the names of kernels.
    attach(model, SinkConfig(pool=pool, active=active, kernel=variant))
    return model, model.sink_config


def measure(hidden: int, shared: int, pool: int, active: int, variant: str, packed: bool, repeats: int) -> dict:
    """Median seconds of the phases of a step of one MLP, and the process's peak memory."""
    torch.set_num_threads(2)
    model, config = build(hidden, shared, pool, active, variant)
    mlp = model.model.layers[0].mlp
    optimizer = SinkAdamW(mlp, 1e-3)
    x = torch.randn(ROWS, TOKENS, hidden, requires_grad=True)
    gradient = torch.randn(ROWS, TOKENS, hidden)
    ids = torch.arange(ROWS)[:, None].expand(ROWS, TOKENS).contiguous()
    if packed:
        # Documents of about 85 tokens, six to a row.
        ids = torch.arange(ROWS * TOKENS).view(ROWS, TOKENS) // 85
    mask = torch.ones(ROWS, TOKENS, dtype=torch.bool)
    times: dict[str, list[float]] = {"select": [], "forward": [], "backward": [], "optimizer": [], "total": []}
    for step in range(repeats + 3):
        marks = [time.perf_counter()]
        if config is not None:
            # New IDs in each step, as in training: the touched rows move through the pool.
            routing = route(ids + step * 1000, mask, OWN, config, 1, torch.float32)
            next(sinks_of(mlp)).routing = routing
        marks.append(time.perf_counter())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = mlp(x)
        marks.append(time.perf_counter())
        y.backward(gradient)
        marks.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        marks.append(time.perf_counter())
        for phase, start, stop in zip(times, marks, marks[1:], strict=False):
            times[phase].append(stop - start)
        times["total"].append(marks[-1] - marks[0])
    return {
        **{phase: statistics.median(values[3:]) * 1e3 for phase, values in times.items()},
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--repeats", type=int, default=10, help="steps timed in each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # The allocator keeps what it has: returning large blocks to the system and faulting them in again would be timed as
    # if it were the layer's work. The same for every variant.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**36)}
    cases = {
        f"{name} | {layout} | {variant}": (*shape, variant, layout == "packed")
        for name, shape in SHAPES.items()
        for layout in ("one ID a row", "packed")
        for variant in VARIANTS
        if not (variant == "plain" and layout == "packed") and not (variant == "dense" and shape[2] > 10_000)
    }
    rounds: dict[str, list[dict]] = {case: [] for case in cases}
    processes = multiprocessing.get_context("spawn")
    for _ in range(options.rounds):
        for case, arguments in cases.items():
            repeats = min(3, options.repeats) if "dense" in arguments else options.repeats
            with processes.Pool(1) as pool:
                rounds[case].append(pool.apply(measure, (*arguments, repeats)))
            print(".", end="", file=sys.stderr, flush=True)
    figures = {
        case: {key: statistics.median(entry[key] for entry in entries) for key in entries[0]}
        for case, entries in rounds.items()
    }
    print(file=sys.stderr)
    show(figures)
    if options.json:
        with Path(options.json).open("w") as file:
            json.dump(
                {"torch": torch.__version__, "threads": 2, "milliseconds": figures, "ratios": ratios(figures)},
                file,
                indent=1,
            )


def ratios(figures: dict[str, dict]) -> dict[str, float]:
    """The figures that the project holds itself to."""
    small, large = (f"960: 500 + {n}, 100 active" for n in ("8,000", "64,000"))

    def total(name: str, layout: str, variant: str) -> float:
        return figures[f"{name} | {layout} | {variant}"]["total"]

    def without_optimizer(variant: str) -> float:
        entry = figures[f"{small} | one ID a row | {variant}"]
        return entry["total"] - entry["optimizer"]

    return {
        "8,000 sinks: dense / gathered, with optimiser": total(small, "one ID a row", "dense")
        / total(small, "one ID a row", "gathered"),
        "8,000 sinks: dense / gathered, forward and backward": without_optimizer("dense")
        / without_optimizer("gathered"),
        "8,000 sinks: gathered / plain, with optimiser": total(small, "one ID a row", "gathered")
        / total(small, "one ID a row", "plain"),
        "8,000 sinks: gathered / plain, forward and backward": without_optimizer("gathered")
        / without_optimizer("plain"),
        "8,000 sinks: packed gathered / plain, with optimiser": total(small, "packed", "gathered")
        / total(small, "one ID a row", "plain"),
        "gathered: 64,000 / 8,000 sinks, with optimiser": total(large, "one ID a row", "gathered")
        / total(small, "one ID a row", "gathered"),
    }


def show(figures: dict[str, dict]) -> None:
    console = Console()
    table = Table("shape", "layout", "kernel", "select", "forward", "backward", "optimiser", "total ms", "peak MiB")
    for name, f in figures.items():
        table.add_row(
            *name.split(" | "),
            *(f"{f[k]:.1f}" for k in ("select", "forward", "backward", "optimizer", "total")),
            f"{f['peak_mib']:.0f}",
        )
    console.print(table)
    for name, value in ratios(figures).items():
        console.print(f"{name}: {value:.2f}", highlight=False)


if __name__ == "__main__":
    main()
