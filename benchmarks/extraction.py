"""Extraction of many documents against one document at a time.

A model of the quickstart's size, with weights at random: time does not depend on what it learned. Each rival decides
which documents of 100 tokens come out word for word after their first 50:

- generate: `model.generate` for one document after another, with its cache; the usual way;
- batched: `greedy_extraction`, many documents at once with a cache;
- one pass: `forced`, which needs no generation.

All have to agree on every document. Times are seconds of the processor in one thread, which other work on the machine
disturbs little. Rounds go through all of them in turn, and ratios are those within a round.
Prints tables, and writes extraction.json beside this file (--json FILE for another; --quick, a smoke run, writes only
where it is told to).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stream import versions
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from memsinks.audit import TokenizedDocument, greedy_extraction
from memsinks.audit.forced import forced

PREFIX = SUFFIX = 50
VOCABULARY = 2048
RIVAL, BATCHED, PASS = "generate", "batched", "one pass"


def model_of(quick: bool) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32 if quick else 256,
        intermediate_size=64 if quick else 688,
        num_hidden_layers=1 if quick else 4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def documents_of(model: PreTrainedModel, count: int) -> list[TokenizedDocument]:
    """Half of them the model's own words after the prefix, so that they come out; half at random."""
    random = np.random.default_rng(0)
    prompts = torch.from_numpy(random.integers(VOCABULARY, size=(count, PREFIX)))
    own = model.generate(
        input_ids=prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=SUFFIX, do_sample=False
    ).numpy()
    own[count // 2 :, PREFIX:] = random.integers(VOCABULARY, size=(count - count // 2, SUFFIX))
    return [TokenizedDocument(str(i), row, 0) for i, row in enumerate(own)]


def one_by_one(model: PreTrainedModel, documents: list[TokenizedDocument]) -> list[bool]:
    found = []
    for document in documents:
        prompt = torch.from_numpy(document.tokens[None, :PREFIX])
        written = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=SUFFIX,
            do_sample=False,
            use_cache=True,
        )
        found.append(bool((written[0].numpy() == document.tokens).all()))
    return found


def batched(model: PreTrainedModel, documents: list[TokenizedDocument]) -> list[bool]:
    found = greedy_extraction(model, documents, mode=None, prefix=PREFIX, suffix=SUFFIX, batch_size=64)
    return [d.exact for d in found.documents]


def one_pass(model: PreTrainedModel, documents: list[TokenizedDocument]) -> list[bool]:
    return [d.exact(PREFIX, SUFFIX) for d in forced(model, documents, mode=None)]


def measured(quick: bool, count: int, rounds: int) -> dict[str, Any]:
    model = model_of(quick)
    documents = documents_of(model, count)
    rivals: dict[str, Callable[[], list[bool]]] = {
        RIVAL: lambda: one_by_one(model, documents),
        BATCHED: lambda: batched(model, documents),
        PASS: lambda: one_pass(model, documents),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    agreed = None
    for _ in range(rounds):
        for name, run in rivals.items():
            started = time.process_time()
            with torch.no_grad():
                found = run()
            seconds[name].append(time.process_time() - started)
            agreed = agreed or found
            assert found == agreed, f"{name} finds other documents than {RIVAL}"
    ratios = {
        f"{RIVAL} / {name}": [a / b for a, b in zip(seconds[RIVAL], own, strict=True)]
        for name, own in seconds.items()
        if name != RIVAL
    }
    return {
        "documents": count,
        "extracted": sum(agreed or []),
        "extracted_in_bfloat16": sum(
            d.exact(PREFIX, SUFFIX) for d in forced(model, documents, mode=None, autocast=True)
        ),
        "prefix": PREFIX,
        "suffix": SUFFIX,
        "parameters": model.num_parameters(),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "seconds": {name: statistics.median(own) for name, own in seconds.items()},
        "ratios": {name: {"median": statistics.median(r), "min": min(r), "max": max(r)} for name, r in ratios.items()},
    }


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("", "seconds", title=f"{result['documents']} documents, {result['extracted']} of them extracted")
    for name, seconds in result["seconds"].items():
        table.add_row(name, f"{seconds:.2f}")
    console.print(table)
    ratios = Table("ratio of time", "median", "min", "max")
    for name, r in result["ratios"].items():
        ratios.add_row(name, *(f"{r[k]:.1f}" for k in ("median", "min", "max")))
    console.print(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    count, rounds = (8, 1) if arguments.quick else (128, 3)
    result = {**measured(arguments.quick, count, rounds), **versions()}
    show(result)
    target = arguments.json or (None if arguments.quick else Path(__file__).with_suffix(".json"))
    if target is not None:
        target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
