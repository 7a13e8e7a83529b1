"""Compare the memory estimate with real peaks of training steps on the CPU.

Each case runs in a process of its own: three steps, of which the second and third have the optimiser's moments from
the start. The peak is the growth of resident memory (ru_maxrss) over what the process held after imports and a small
matrix product. Prints a table and writes estimate_peak.json beside this file (--json FILE for another, --quick without
the 135M recipe).
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = {
    "model_type": "llama",
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
SMALL_SINKS = {"pool": 3000, "active": 300}
RECIPE_SINKS = {"pool": 6144, "active": 128}


def case(name: str, **changes: object) -> dict:
    base = {
        "name": name,
        "config": SMALL,
        "sinks": SMALL_SINKS,
        "rows": 16,
        "tokens": 256,
        "accumulation": 1,
        "ids": 16,
        "bf16": True,
        "checkpointing": False,
        "attention": "sdpa",
        "document": None,
    }
    return base | changes


CASES = [
    case("small, sdpa"),
    case("small, sdpa, checkpointing", checkpointing=True),
    case("small, eager", attention="eager"),
    case("small, eager, checkpointing", attention="eager", checkpointing=True),
    case("small, sdpa, fp32", bf16=False),
    case("small, sdpa, no sinks", sinks=None),
    case("small, sdpa, 4 micro-batches", accumulation=4),
    case("small, sdpa, packed", document=64, ids=64),
    case("small, grouped keys, packed", config=SMALL | {"num_key_value_heads": 1}, document=64, ids=64),
    case("135M recipe, 1x512", config="smollm2-135m", sinks=RECIPE_SINKS, rows=1, tokens=512, ids=1),
    case(
        "135M recipe, 1x512, checkpointing",
        config="smollm2-135m",
        sinks=RECIPE_SINKS,
        rows=1,
        tokens=512,
        ids=1,
        checkpointing=True,
    ),
]


def measure(c: dict) -> None:
    """Run in the child: print the estimate and the measured growth as JSON."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from memsinks import SinkAdamW, SinkConfig, attach
    from memsinks.runs.estimate import estimate
    from memsinks.runs.memory import Geometry

    torch.set_num_threads(2)
    if isinstance(c["config"], str):
        config = AutoConfig.from_pretrained(ROOT / "recipes" / "models" / f"{c['config']}.json")
    else:
        config = AutoConfig.for_model(**c["config"])
    sinks = None if c["sinks"] is None else SinkConfig(**c["sinks"])
    geometry = Geometry(
        rows=c["rows"],
        row_tokens=c["tokens"],
        accumulation=c["accumulation"],
        device_type="cpu",
        bf16=c["bf16"],
        gradient_checkpointing=c["checkpointing"],
        attention=c["attention"],
        packed=c["document"] is not None,
        ids=c["ids"],
    )
    expected = estimate(config, sinks, geometry, tokens=0)
    a = torch.ones(64, 64, dtype=torch.bfloat16, requires_grad=True)
    (a @ a).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=c["attention"])
    if sinks is not None:
        attach(model, sinks)
    model.train()
    if c["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = SinkAdamW(model, 1e-3)
    started = time.perf_counter()
    for step in range(3):
        for micro in range(c["accumulation"]):
            inputs = torch.randint(config.vocab_size, (c["rows"], c["tokens"]))
            extra = {} if sinks is None else {"sequence_ids": torch.arange(c["rows"]) + 1000 * (4 * step + micro)}
            if c["document"]:
                positions = torch.arange(c["tokens"]).expand(c["rows"], -1)
                extra["sequence_ids"] = extra["sequence_ids"][:, None] * 100 + positions // c["document"]
                extra["position_ids"] = positions % c["document"]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=c["bf16"]):
                loss = model(input_ids=inputs, labels=inputs, use_cache=False, **extra).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = expected.as_dict()["memory"]
    print(
        json.dumps(
            {
                "estimate": expected.memory.peak,
                "measured": peak - before,
                "ratio": expected.memory.peak / (peak - before),
                "seconds_per_step": (time.perf_counter() - started) / 3,
                "parts": memory,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure(json.loads(options.case))
        return
    import torch
    import transformers

    # Freed blocks go back to the system at once, so that resident memory is what tensors hold.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    results = {}
    for c in CASES:
        if options.quick and isinstance(c["config"], str):
            continue
        command = [sys.executable, __file__, "--case", json.dumps(c)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        results[c["name"]] = r = json.loads(run.stdout.splitlines()[-1])
        print(
            f"{c['name']:36} estimate {r['estimate'] / 1e6:8.0f} MB  measured {r['measured'] / 1e6:8.0f} MB  "
            f"ratio {r['ratio']:.2f}",
            flush=True,
        )
    written = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.processor() or platform.machine(),
        "threads": 2,
        "cases": results,
    }
    options.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
