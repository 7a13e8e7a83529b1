"""Time of a training step with sinks: against a plain model, against mask-and-multiply, and by the size of the pool.

A step is forward, backward, clipping, the optimiser's step and zero_grad, on the code that users run. The rivals of a
case take the same batch of the same stream, in the same process, one after the other in every round, in an order that
turns; a ratio is formed within each round, so a slow minute of the machine falls on both of its sides. Each case has a
process of its own.

    plain             a stock model whose MLP is wider by the active sinks; torch.optim.AdamW and clip_grad_norm_
    plain, fused      the same with AdamW(fused=True), which is what transformers' Trainer takes by default
    gathered          the model with sinks, as trained by default; SinkAdamW
    dense             the same by mask-and-multiply, with dense gradients

Prints a table with the goal beside each ratio, and writes training_step.json beside this file (--json FILE for another;
--quick, a smoke run, and runs of chosen cases write only where they are told to).
"""

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stream import MULTIPLE, SHAPE, story_corpus, versions
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from memsinks import SinkAdamW, SinkConfig, attach
from memsinks.corpus import Corpus
from memsinks.experiments.quickstart import QuickstartConfig
from memsinks.stream import Collator, ExposurePlan, GovernedPolicy, build_stream, governed
from memsinks.training.attention import choose_attention
from memsinks.training.run import bf16_pays, pad_id

ROOT = Path(__file__).parents[1]
GOALS = {"cpu": 1.10, "cuda": 1.03}
"""Most that a step with sinks may take, as a multiple of a plain model's of the same active width."""

ENVIRONMENT = {
    # What the Makefile sets for the quickstart, with a higher trimming threshold: several rivals share a process.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "GOMP_SPINCOUNT": "20000",
    "TOKENIZERS_PARALLELISM": "false",
}
WARM_UP = 2
PHASES = ("forward", "backward", "optimizer")


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: shown in the table.
        model: quickstart, or the name of a file in recipes/models.
        rows, tokens: of a batch; rows of one document are padded to the longest.
        packed: several documents a row.
        governed: which documents train with their sinks: ``repeated`` (12 stories seen 100 times each among the
            others, as in the quickstart), or ``all``.
        checkpointing: gradient checkpointing.
        active: sinks that one document switches on.
        rivals: (kind, pool) to time, the pool being 0 for plain ones.
    """

    name: str
    model: str
    rows: int
    tokens: int
    packed: bool
    governed: str
    checkpointing: bool
    active: int
    rivals: tuple[tuple[str, int], ...]

    def label(self, rival: tuple[str, int]) -> str:
        kind, pool = rival
        several = len({pool for _, pool in self.rivals if pool}) > 1
        return f"{kind}, pool {pool}" if pool and several else kind


PLAIN = (("plain", 0), ("plain, fused", 0))


def cases(device: str) -> list[Case]:
    """What is compared on a kind of device."""
    gpu = device == "cuda"
    found = []

    def add(title: str, model: str, rows: int, tokens: int, active: int, rivals: Any, **changes: Any) -> None:
        options: dict[str, Any] = {"packed": False, "governed": "repeated", "checkpointing": False} | changes
        layout = "packed" if options["packed"] else "one document a row"
        share = "all documents" if options["governed"] == "all" else "repeated documents"
        checkpointing = " | checkpointing" if options["checkpointing"] else ""
        name = f"{title} | {layout} | sinks on {share}{checkpointing}"
        found.append(Case(name, model, rows, tokens, active=active, rivals=tuple(rivals), **options))

    rows, length, pool, active = SHAPE.batch_size, SHAPE.max_length, SHAPE.pool, SHAPE.active
    three = (*PLAIN, ("gathered", pool), ("dense", pool))
    # A packed row holds several documents, in as many tokens a batch.
    for packed, shape in ((False, (rows, length)), (True, (rows // 4, length * 4))):
        for who in ("repeated", "all"):
            add("quickstart", "quickstart", *shape, active, three, packed=packed, governed=who)
        two = (PLAIN[0], ("gathered", pool))
        add("quickstart", "quickstart", *shape, active, two, packed=packed, checkpointing=True)

    # recipes/smollm2-135m.toml: its pool and active sinks. Its micro-batch is 4 x 2048 packed tokens, which the CPU has
    # no time for: the fixed costs of a step (optimiser, selection) weigh more there than in the recipe.
    recipe, pool_135, active_135 = "smollm2-135m", 6144, 128
    small, packed_shape = ((8, 256), (4, 2048)) if gpu else ((2, 256), (1, 512))
    pair = (*PLAIN, ("gathered", pool_135))
    for who in ("repeated", "all"):
        add("135M", recipe, *small, active_135, pair, governed=who)
    for who in ("repeated", "all"):
        add("135M", recipe, *packed_shape, active_135, pair, packed=True, governed=who)
    add("135M", recipe, *packed_shape, active_135, pair[::2], packed=True, governed="all", checkpointing=True)
    # By itself: three such models with their moments do not fit a laptop.
    against = (("gathered", pool_135), ("dense", pool_135))
    add("135M, against dense", recipe, *small, active_135, against, governed="all")

    pools = (1024, 4096, 16384, 65536)
    swept = [("gathered", p) for p in pools] + [("dense", p) for p in pools[: 4 if gpu else 3]]
    add("pool sweep", "quickstart", rows, length, active, (PLAIN[0], *swept), governed="all")
    return found


def quick(case: Case) -> Case:
    """A case that is over in seconds: few tokens, a small pool."""
    rivals = tuple(dict.fromkeys((kind, pool and (256 if pool < 10_000 else 512)) for kind, pool in case.rivals))
    return Case(**{**asdict(case), "rows": 2, "tokens": 256, "active": 32, "rivals": rivals})


# In the child process


class Rival:
    """A model, its optimiser, and how long its steps took."""

    def __init__(self, case: Case, kind: str, pool: int, attention: str, device: torch.device) -> None:
        self.plain = kind.startswith("plain")
        config = copy.deepcopy(model_config(case.model))
        if self.plain:
            config.intermediate_size += case.active
        torch.manual_seed(0)
        self.model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        options = {"betas": (0.9, 0.95), "weight_decay": 0.1}
        if not self.plain:
            attach(self.model, SinkConfig(pool=pool, active=case.active, kernel=kind))
        self.model.to(device).train()
        if case.checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.parameters = list(self.model.parameters())
        # Defaults but for fused: what each of them does if nobody asks for more.
        self.optimizer: Any = (
            torch.optim.AdamW(self.parameters, 1e-3, fused=True if kind == "plain, fused" else None, **options)
            if self.plain
            else SinkAdamW(self.model, 1e-3, sink_lr_multiplier=5.0, **options)
        )
        self.times: list[dict[str, float]] = []

    def step(self, batch: dict[str, Tensor], bf16: bool) -> dict[str, float]:
        """Seconds of one training step and, on a CPU, of its phases."""
        device = batch["input_ids"].device
        if self.plain:
            batch = {k: v for k, v in batch.items() if k in ("input_ids", "labels", "position_ids")}
        marks = [now(device)]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = self.model(**batch, use_cache=False).loss
        # A GPU runs behind the program: looking at a phase's end would make it wait there, so only the whole is timed.
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        if self.plain:
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(now(device))
        times = {"total": marks[-1] - marks[0]}
        if device.type == "cpu":
            times |= {name: b - a for name, a, b in zip(PHASES, marks, marks[1:], strict=False)}
        return times


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def model_config(name: str) -> Any:
    if name == "quickstart":
        return LlamaConfig(
            vocab_size=SHAPE.vocabulary,
            hidden_size=SHAPE.hidden,
            intermediate_size=SHAPE.width,
            num_hidden_layers=SHAPE.layers,
            num_attention_heads=SHAPE.heads,
            num_key_value_heads=SHAPE.heads,
            max_position_embeddings=4 * SHAPE.max_length,
            tie_word_embeddings=True,
        )
    return AutoConfig.from_pretrained(ROOT / "recipes" / "models" / f"{name}.json")


def batches(case: Case, corpus: Corpus, count: int, device: torch.device) -> list[dict[str, Tensor]]:
    """The first batches of the stream, all of the case's shape."""
    usable = np.flatnonzero(corpus.lengths <= SHAPE.max_length)
    # As many passes over repeated stories as in the quickstart, beside as many others.
    repeated = usable[np.random.default_rng(1).permutation(len(usable))[: SHAPE.repeated]]
    others = len(corpus) - len(repeated)
    quickstart = QuickstartConfig()
    times = max(2, round(quickstart.exposures * others / (0.88 * quickstart.stories)))
    plan = ExposurePlan.once(corpus).repeat(repeated.tolist(), times)
    policy = governed(corpus, plan, GovernedPolicy("repeated" if case.governed == "repeated" else "all"))
    rows = build_stream(corpus, plan, seed=0, max_length=case.tokens, packed=case.packed, governed=policy)
    collate = Collator(pad_id(corpus), pad_to_multiple_of=MULTIPLE)
    needed = count * case.rows
    if len(rows) < needed:
        raise SystemExit(f"{case.name}: the stream has {len(rows)} rows and {needed} are needed")
    made = [collate([rows[i] for i in range(n * case.rows, (n + 1) * case.rows)]) for n in range(count)]
    return [{key: value.to(device) for key, value in batch.items()} for batch in made]


def prepared(case: Case, corpus_path: Path, count: int, device_name: str) -> tuple[Any, ...]:
    """Rivals, batches, attention and precision of a case."""
    device = torch.device(device_name)
    bf16 = bf16_pays()
    attention = choose_attention(
        model_config(case.model),
        device_type=device.type,
        packed=case.packed,
        max_length=case.tokens,
        dtype=torch.bfloat16 if bf16 else torch.float32,
    ).name
    made = batches(case, Corpus.open(corpus_path, verify=False), count, device)
    rivals = {case.label(rival): Rival(case, *rival, attention, device) for rival in case.rivals}
    return rivals, made, attention, bf16


def measure(case: Case, corpus_path: Path, rounds: int, threads: int, device: str) -> dict[str, Any]:
    """Seconds of each rival in each round, and what the batches were."""
    torch.set_num_threads(threads)
    warm_up = min(WARM_UP, rounds)
    rivals, made, attention, bf16 = prepared(case, corpus_path, warm_up + rounds, device)
    order = list(rivals)
    for number, batch in enumerate(made):
        turn = number % len(order)
        for label in order[turn:] + order[:turn]:
            times = rivals[label].step(batch, bf16)
            if number >= warm_up:
                rivals[label].times.append(times)
    timed = made[warm_up:]
    slots = sum(batch["input_ids"].numel() for batch in timed)
    real = sum(int((batch["labels"] != -100).sum()) for batch in timed)
    return {
        "times": {label: rival.times for label, rival in rivals.items()},
        "attention": attention,
        "bf16": bf16,
        "slots_per_batch": slots / rounds,
        "predicted_tokens_per_batch": real / rounds,
        "governed_share": sum(int(batch["sink_mask"].sum()) for batch in timed) / slots,
        "peak_device_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
    }


def profile(case: Case, corpus_path: Path, steps: int, threads: int, device: str) -> str:
    """Where a step's time goes, for each rival: operators by their own time."""
    torch.set_num_threads(threads)
    rivals, made, _, bf16 = prepared(case, corpus_path, 2 * steps, device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    tables = []
    for label, rival in rivals.items():
        for batch in made[:steps]:
            rival.step(batch, bf16)
        with torch.profiler.profile(activities=activities) as profiler:
            for batch in made[steps:]:
                rival.step(batch, bf16)
        events = profiler.key_averages().table(
            sort_by=f"self_{device}_time_total", row_limit=25, max_name_column_width=48
        )
        tables.append(f"{case.name}\n{label}, {steps} steps\n{events}\n")
    return "\n".join(tables)


# In the parent


def in_child(function: Any, *arguments: Any) -> Any:
    """Run in a process of its own, whose allocator has read ENVIRONMENT."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(case: Case, measured: dict[str, Any], device: str) -> dict[str, Any]:
    """Medians of a case, and its ratios with their goals."""
    times = measured.pop("times")
    milliseconds = {
        label: {part: statistics.median(t[part] for t in entries) * 1e3 for part in entries[0]}
        for label, entries in times.items()
    }
    ratios: dict[str, dict[str, float | None]] = {}

    def add(over: str, under: str, goal: float | None = None) -> None:
        if over in times and under in times:
            values = [a["total"] / b["total"] for a, b in zip(times[over], times[under], strict=True)]
            ratios[f"{over} / {under}"] = {**spread(values), "goal": goal}

    labels = list(times)
    own = [label for label in labels if label.startswith("gathered")]
    for label in own:
        add(label, "plain", GOALS[device])
        add(label, "plain, fused")
        add(label.replace("gathered", "dense"), label)
    for label in own[1:]:
        add(label, own[0])
    return {**asdict(case), "milliseconds": milliseconds, "ratios": ratios, **measured}


def show(results: dict[str, dict[str, Any]]) -> None:
    console = Console(width=max(150, Console().width))
    table = Table("case", "rival", "ms", *PHASES, title="milliseconds of a step, median over rounds")
    for name, result in results.items():
        for index, (label, times) in enumerate(result["milliseconds"].items()):
            parts = [f"{times[part]:.0f}" if part in times else "" for part in PHASES]
            note = f"{name} (sinks on {result['governed_share']:.0%} of slots)"
            table.add_row("" if index else note, label, f"{times['total']:.0f}", *parts)
        table.add_section()
    console.print(table)
    table = Table("case", "ratio", "median", "min", "max", "goal", "", title="ratios within a round")
    for name, result in results.items():
        for index, (label, r) in enumerate(result["ratios"].items()):
            goal = r["goal"]
            verdict = "" if goal is None else ("met" if r["median"] <= goal else "missed")
            figures = (f"{r[key]:.2f}" for key in ("median", "min", "max"))
            table.add_row("" if index else name, label, *figures, "" if goal is None else f"<= {goal:.2f}", verdict)
        table.add_section()
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go; default training_step.json beside this file")
    parser.add_argument("--device", choices=sorted(GOALS), default="cpu")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the quickstart's cases; the 135M has half")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="cases whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="a smoke run: two cases, tiny batches, two rounds")
    parser.add_argument(
        "--profile",
        nargs="?",
        const="",
        metavar="FILE",
        help="instead of timing, profile plain and gathered at the quickstart's shape; into FILE if given",
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    os.environ |= ENVIRONMENT
    chosen = [case for case in cases(options.device) if options.only is None or options.only in case.name]
    if options.quick:
        # The first (all rivals) and the last packed one (checkpointing): a process takes longer to start than to run.
        small = [quick(case) for case in chosen if case.model == "quickstart"]
        chosen = list(dict.fromkeys(small[:1] + [case for case in small if case.packed][-1:]))
    if not chosen:
        parser.error(f"no case has {options.only!r} in its name")
    started = time.perf_counter()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        corpus_path = Path(folder) / "corpus"
        story_corpus(corpus_path, 300 if options.quick else round(0.88 * SHAPE.stories))
        if options.profile is not None:
            case = chosen[0]
            case = Case(**{**asdict(case), "rivals": tuple(r for r in case.rivals if r[0] in ("plain", "gathered"))})
            text = in_child(profile, case, corpus_path, 2 if options.quick else 8, options.threads, options.device)
            print(text)
            if options.profile:
                Path(options.profile).write_text(text, encoding="utf-8")
            return
        for case in chosen:
            large = case.model != "quickstart" and options.device == "cpu"
            rounds = 2 if options.quick else max(2, options.rounds // 2 if large else options.rounds)
            began = time.perf_counter()
            measured = in_child(measure, case, corpus_path, rounds, options.threads, options.device)
            results[case.name] = {"rounds": rounds} | summary(case, measured, options.device)
            print(f"{time.perf_counter() - began:5.0f} s  {case.name}", file=sys.stderr, flush=True)
    show(results)
    target = options.json
    if target is None and not (options.quick or options.only):
        target = Path(__file__).with_suffix(".json" if options.device == "cpu" else ".cuda.json")
    if target:
        facts = {
            **versions(),
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "threads": options.threads,
            "seconds": round(time.perf_counter() - started),
            "environment": ENVIRONMENT,
        }
        target.write_text(json.dumps(facts | {"cases": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
