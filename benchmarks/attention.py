"""Eager attention against SDPA on a CPU, by row length: which one training should choose.

Forward and backward of a Llama of the quickstart's width over 2,048 tokens, with rows of one document and with packed
rows of documents of 96 tokens, in bfloat16 autocast and in float32. In every round each implementation takes the same
batch, in an order that turns; a ratio is formed within each round. Prints a table and writes attention.json beside this
file (--json FILE for another).
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from stream import SHAPE, versions
from transformers import AutoModelForCausalLM, LlamaConfig

from memsinks.training.attention import CPU_SDPA_FROM
from memsinks.training.run import bf16_pays

TOKENS, DOCUMENT = 2048, 96
LENGTHS = (128, 256, 512, 1024, 2048)
NAMES = ("eager", "sdpa")


def build(name: str) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.width,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        max_position_embeddings=TOKENS,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation=name).train()


def step(model: Any, length: int, packed: bool, bf16: bool) -> float:
    """Seconds of a forward and a backward pass."""
    tokens = torch.randint(SHAPE.vocabulary, (TOKENS // length, length), generator=torch.Generator().manual_seed(0))
    # Positions that begin anew are how transformers sees where a document ends.
    positions = (torch.arange(length) % DOCUMENT).expand_as(tokens).contiguous() if packed else None
    model.zero_grad()
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(input_ids=tokens, labels=tokens, position_ids=positions, use_cache=False).loss
    loss.backward()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = {name: build(name) for name in NAMES}
    cases = [(length, packed, bf16) for bf16 in (True, False) for packed in (False, True) for length in LENGTHS]
    times: dict[Any, dict[str, list[float]]] = {case: {name: [] for name in NAMES} for case in cases}
    for number in range(options.rounds + 1):
        for case in cases:
            for name in NAMES[:: 1 if number % 2 else -1]:
                seconds = step(models[name], *case)
                if number:  # the first round warms up
                    times[case][name].append(seconds)
    table = Table("precision", "rows", "tokens in a row", "eager ms", "sdpa ms", "sdpa / eager", "min", "max", "chosen")
    found = []
    for length, packed, bf16 in cases:
        seconds = times[length, packed, bf16]
        ratios = [b / a for a, b in zip(seconds["eager"], seconds["sdpa"], strict=True)]
        row = {
            "precision": "bf16 autocast" if bf16 else "float32",
            "rows": "packed" if packed else "one document",
            "tokens_in_a_row": length,
            "milliseconds": {name: statistics.median(seconds[name]) * 1e3 for name in NAMES},
            "sdpa / eager": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        }
        found.append(row)
        figures = (f"{row['sdpa / eager'][key]:.2f}" for key in ("median", "min", "max"))
        milliseconds = (f"{row['milliseconds'][name]:.0f}" for name in NAMES)
        chosen = "sdpa" if length >= CPU_SDPA_FROM[torch.bfloat16 if bf16 else torch.float32] else "eager"
        table.add_row(row["precision"], row["rows"], str(length), *milliseconds, *figures, chosen)
    Console(width=120).print(table)
    facts = versions() | {"threads": options.threads, "rounds": options.rounds, "bf16_in_hardware": bf16_pays()}
    options.json.write_text(json.dumps(facts | {"cases": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
