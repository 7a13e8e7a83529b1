"""Time of a training step at the quickstart's shape: attention implementations, an allocator that keeps its memory, and
compiled layers.

Each variant runs in a process of its own, because glibc reads its settings once, and again in each of --rounds passes,
so that a slow minute of the machine does not fall on one variant alone; the figures are medians. Prints JSON with
--json FILE.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from memsinks import SinkAdamW
from memsinks.experiments.quickstart import QuickstartConfig
from memsinks.training.compilation import compiled_layers

SHAPE, TOKENS, WARM_UP = QuickstartConfig(), 224, 3
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""What the Makefile sets for the quickstart."""
VARIANTS = {
    "sdpa, default allocator": ("sdpa", False, False),
    "sdpa, memory kept": ("sdpa", True, False),
    "eager, default allocator": ("eager", False, False),
    "eager, memory kept": ("eager", True, False),
    "eager, memory kept, layers compiled": ("eager", True, True),
}
"""Attention, whether the allocator keeps its memory, whether decoder layers are compiled."""


def measure(attention: str, compiled: bool, steps: int) -> float:
    """Median milliseconds of forward, backward and the optimiser."""
    torch.set_num_threads(2)
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.width,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
    optimizer = SinkAdamW(model, 1e-3)
    times = []
    with compiled_layers(model) if compiled else nullcontext():
        for step in range(steps + WARM_UP):
            # Another length each time, as in training: what is compiled must serve them all.
            tokens = torch.randint(SHAPE.vocabulary, (SHAPE.batch_size, TOKENS - step % 2))
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--steps", type=int, default=8, help="steps timed in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    processes = multiprocessing.get_context("spawn")
    for _ in range(options.rounds):
        for variant, (attention, kept, compiled) in VARIANTS.items():
            for key, setting in KEEP.items():
                os.environ.pop(key, None)
                if kept:
                    os.environ[key] = setting
            with processes.Pool(1) as pool:
                rounds[variant].append(pool.apply(measure, (attention, compiled, options.steps)))
    named = {variant: statistics.median(values) for variant, values in rounds.items()}
    usual = named["eager, memory kept"]
    ratios = {
        "sdpa / eager, memory kept": named["sdpa, memory kept"] / usual,
        "default allocator / memory kept, eager": named["eager, default allocator"] / usual,
        "not compiled / layers compiled, eager, memory kept": usual / named["eager, memory kept, layers compiled"],
    }
    for name, value in named.items():
        print(f"{name}: {value:.0f} ms")
    for name, value in ratios.items():
        print(f"{name}: {value:.2f}")
    if options.json:
        result = {"torch": torch.__version__, "threads": 2, "milliseconds": named, "ratios": ratios}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
