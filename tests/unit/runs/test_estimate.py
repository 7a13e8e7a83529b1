"""Estimates against real models, against the hand count in the documentation, and against each other."""

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM

from memsinks import ConfigError, SinkConfig, attach
from memsinks.config import read_config
from memsinks.runs import estimate as module
from memsinks.runs import peak
from memsinks.runs.build import plan_model
from memsinks.runs.config import RunConfig
from memsinks.runs.estimate import estimate, estimate_run
from memsinks.runs.estimate_table import in_words, render
from memsinks.runs.memory import Geometry, touched_rows
from memsinks.sinks.attach import sinks_of
from tests.families import CONFIGS

ROOT = Path(__file__).parents[3]
RECIPES = {"135m": 1, "360m": 1, "1.7b": 8}
PUBLISHED = {"135m": 134_515_008, "360m": 361_821_120, "1.7b": 1_711_376_384}
POOL = SinkConfig(pool=12, active=4)
ONE = Geometry(rows=2, row_tokens=16, device_type="cpu")


def tiny(family: str, **changes):
    return AutoConfig.for_model(family, **(CONFIGS[family] | changes))


def recipe(name: str) -> RunConfig:
    return read_config(RunConfig, ROOT / "recipes" / f"smollm2-{name}.toml")


def estimated(name: str, **changes):
    run = recipe(name)
    model_config, sinks = plan_model(replace(run, model=replace(run.model, config=ROOT / str(run.model.config))))
    options = {
        "devices": RECIPES[name],
        "device_type": "cuda",
        "planned_tokens": 20_000_000_000,
        "governed_share": 0.02,
        "document_tokens": 512,
    }
    return estimate_run(run, model_config, sinks, **(options | changes))


def hand_count() -> dict[str, float]:
    page = (ROOT / "docs" / "estimate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([\d.,e]+) \|$", page, re.MULTILINE)
    return {name.strip(): float(value.replace(",", "")) for name, value in rows}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox", "gemma3_text"])
def test_parameters_are_those_of_the_real_model(family, tied):
    config = tiny(family, tie_word_embeddings=tied)
    expected = estimate(config, POOL, ONE, tokens=0).parameters
    model = AutoModelForCausalLM.from_config(config)
    assert expected.shared == sum(p.numel() for p in model.parameters())
    attach(model, POOL)
    rows = [p for sinks in sinks_of(model) for p in sinks.parameters()]
    assert expected.sinks == sum(p.numel() for p in rows)
    assert expected.active == expected.shared + sum(p[:4].numel() for p in rows)


def test_the_configuration_is_not_changed():
    config = tiny("llama")
    before = config.to_dict()
    estimate(config, POOL, ONE, tokens=0)
    assert config.to_dict() == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox"])
def test_forward_flops_are_those_that_torch_counts(family):
    from torch.utils.flop_counter import FlopCounterMode

    config = tiny(family)
    flops = estimate(config, SinkConfig(pool=12, active=4), Geometry(rows=2, row_tokens=16, ids=2), tokens=0).flops
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    attach(model, POOL)
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(2, 16, dtype=torch.int64), sequence_ids=torch.tensor([1, 2]), use_cache=False)
    # torch counts the look-up of rotary angles as products too.
    assert counter.get_total_flops() == pytest.approx(32 * flops.forward, rel=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid_and_have_the_published_size(name):
    run = recipe(name)
    assert run.sinks.attach
    result = estimated(name)
    assert result.parameters.shared == PUBLISHED[name]
    assert result.geometry.accumulation * result.geometry.rows * RECIPES[name] == run.schedule.batch_size
    assert result.memory.peak < {"135m": 24e9, "360m": 80e9, "1.7b": 80e9}[name] * 0.85


def test_the_estimate_agrees_with_the_hand_count():
    e, hand = estimated("1.7b"), hand_count()
    f, m = e.flops, e.memory
    lines = {
        "shared parameters": e.parameters.shared,
        "sink parameters": e.parameters.sinks,
        "active per token": e.parameters.active,
        "layers, FLOPs forward": f.layers,
        "scores, FLOPs forward": f.scores,
        "output layer, FLOPs forward": f.output,
        "sinks, FLOPs forward": f.sinks,
        "forward FLOPs": f.forward,
        "backward FLOPs": f.backward,
        "recomputed FLOPs": f.recomputed,
        "total FLOPs": e.total_flops,
        "weights": m.weights,
        "moments": m.moments,
        "gradients, shared": m.gradients_shared,
        "union of rows, 40.96 IDs": e.touched_rows,
        "gradients, sinks": m.gradients_sinks,
        "gathered weights": m.weight_copies,
        "one layer's activations": m.one_layer,
        "output layer and loss": m.logits,
        "peak (moment 2)": m.peak,
        "sent for shared weights": e.traffic.shared,
        "sent for sinks": e.traffic.sinks,
        "checkpoint on disk": e.checkpoint,
    }
    for name, value in lines.items():
        assert value == pytest.approx(hand[name], rel=0.10), name
    kept = hand["checkpoints"] + hand["after the layers"] + hand["attention mask"]
    assert m.activations == pytest.approx(kept, rel=0.10)


def test_the_hand_count_adds_up():
    """The page's own arithmetic, again, so that a slip there cannot hide behind one in the code."""
    hand = hand_count()
    shared = 24 * (4 * 2048**2 + 3 * 2048 * 8192 + 2 * 2048) + 2048 + 49152 * 2048
    sinks = 12 * 3 * 8192 * 2048
    forward = 2 * 24 * 67_108_864 + 4 * 24 * 2048**2 + 2 * 2048 * 49152 + 2 * 0.02 * 12 * 3 * 128 * 2048
    union = 8192 * (1 - (63 / 64) ** 40.96)
    row = 4 * 12 * 3 * 2048
    weights, moments = 4 * (shared + sinks) / 8, (8 * (shared + sinks) + 12 * 3 * 8192 * 8) / 8
    again = {
        "shared parameters": shared,
        "sink parameters": sinks,
        "forward FLOPs": forward,
        "total FLOPs": 20e9 * (4 * forward - 2 * 2048 * 49152),
        "weights": weights,
        "moments": moments,
        "union of rows, 40.96 IDs": union,
        "gradients, sinks": row * (655.36 + union / 8),
        "one layer's activations": 32768 * (34 * 2048 + 4 * 32 + 8 * 8192),
        "checkpoints": 24 * 4 * 32768 * 2048,
        "output layer and loss": 12 * 32768 * 49152,
        "sent for shared weights": 3 * 7 / 8 * 2 * shared * 4,
        "sent for sinks": 7 / 8 * row / 4 * (16 * 163.84 + 4 * 8192 * (1 - (63 / 64) ** 5.12)),
        "checkpoint on disk": 12 * (shared + sinks),
    }
    again["peak (moment 2)"] = (
        weights
        + moments
        + 4 * shared / 8
        + again["gradients, sinks"]
        + 2 * (3 * 67_108_864 + 49152 * 2048)
        + again["checkpoints"]
        + 32768 * 10 * 2048
        + again["output layer and loss"]
        + 32768 * 2048
    )
    for name, value in again.items():
        assert hand[name] == pytest.approx(value, rel=2e-3), name


def test_without_sinks_nothing_is_counted_for_them():
    e = estimate(tiny("llama"), None, ONE, tokens=100)
    assert (e.parameters.sinks, e.flops.sinks, e.memory.gradients_sinks, e.memory.sinks, e.traffic.sinks) == (0,) * 5
    assert e.touched_rows == 0


def test_dense_sinks_cost_the_pool_and_gathered_ones_the_active_rows():
    config = tiny("llama")
    gathered = estimate(config, POOL, ONE, tokens=0)
    dense = estimate(config, SinkConfig(pool=12, active=4, kernel="dense"), ONE, tokens=0)
    assert dense.flops.sinks == 3 * gathered.flops.sinks
    assert dense.memory.gradients_sinks == 4 * dense.parameters.sinks > gathered.memory.gradients_sinks


def test_checkpointing_trades_memory_for_work():
    config = tiny("llama")
    plain = estimate(config, POOL, ONE, tokens=10)
    again = estimate(config, POOL, Geometry(rows=2, row_tokens=16, gradient_checkpointing=True), tokens=10)
    assert again.memory.activations < plain.memory.activations
    assert again.flops.recomputed == again.flops.forward - again.flops.output
    assert again.flops.model == plain.flops.model == plain.flops.total


def test_eager_attention_keeps_scores():
    config = tiny("llama")
    sdpa, eager = (
        estimate(config, None, Geometry(rows=1, row_tokens=64, attention=a), tokens=0).memory.activations
        for a in ("sdpa", "eager")
    )
    assert eager - sdpa > 6 * 2 * 2 * 64 * 64 * 0.9


def test_fsdp2_divides_what_ddp_repeats():
    config = tiny("llama")
    one = estimate(config, POOL, ONE, tokens=0).memory
    many = {
        s: estimate(config, POOL, Geometry(rows=2, row_tokens=16, devices=4, strategy=s), tokens=0)
        for s in ("ddp", "fsdp2")
    }
    assert many["ddp"].memory.weights == one.weights == 4 * many["fsdp2"].memory.weights
    assert one.moments == 4 * many["fsdp2"].memory.moments
    shared = many["ddp"].parameters.shared
    assert many["ddp"].traffic.shared == 2 * 3 / 4 * 4 * shared
    assert many["fsdp2"].traffic.shared == 3 * 3 / 4 * 2 * shared


def test_union_of_rows():
    shape, _ = module._measure(tiny("llama"), POOL)
    assert touched_rows(shape, 0) == 0
    assert touched_rows(shape, 1) == pytest.approx(4)
    assert touched_rows(shape, 1000) == pytest.approx(12)
    owned, _ = module._measure(tiny("llama"), SinkConfig(pool=12, active=4, allocation="disjoint"))
    assert [touched_rows(owned, n) for n in (1, 2, 5)] == [4, 8, 12]


def test_expected_time():
    e = estimate(tiny("llama"), None, ONE, tokens=1000, peak=2e6, utilisation=0.5)
    assert e.seconds == pytest.approx(e.flops.total * 1000 / 1e6)
    assert estimate(tiny("llama"), None, ONE, tokens=1000).seconds is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: Geometry(rows=0, row_tokens=8),
        lambda: Geometry(rows=1, row_tokens=8, devices=2),
        lambda: Geometry(rows=1, row_tokens=8, governed_share=1.5),
        lambda: estimate(tiny("llama"), None, ONE, tokens=-1),
        lambda: estimate(tiny("llama"), None, ONE, tokens=1, peak=1.0, utilisation=0.0),
        lambda: estimated("135m", devices=0),
    ],
)
def test_numbers_out_of_range_are_refused(call):
    with pytest.raises(ConfigError):
        call()


def test_as_dict_is_json():
    content = json.loads(json.dumps(estimated("135m").as_dict()))
    assert content["memory"]["peak"] > 0
    assert content["flops"]["total"] == content["flops"]["model"]
    assert not any(math.isinf(v) or math.isnan(v) for v in content["memory"].values())


def test_render_names_every_part():
    console = Console(width=100, file=io.StringIO())
    console.print(render(estimated("1.7b")))
    text = console.file.getvalue()
    for words in ("1.71 billion", "checkpoints only", "gathered weights", "peak", "8 devices", "302 quintillion"):
        assert words in text


@pytest.mark.parametrize(
    ("value", "words"), [(5, "5"), (1711376384, "1.71 billion"), (3.02e20, "302 quintillion"), (1234, "1.23 thousand")]
)
def test_in_words(value, words):
    assert in_words(value) == words


@pytest.mark.parametrize(
    ("name", "dtype", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756e12),
        ("NVIDIA A100-SXM4-40GB", torch.float32, 156e12),
        ("NVIDIA L40S", torch.bfloat16, 362e12),
        ("NVIDIA L4", torch.bfloat16, 121e12),
        ("NVIDIA A10G", torch.bfloat16, 70e12),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, 165.2e12),
        ("Tesla V100-SXM2-16GB", torch.bfloat16, None),
        ("Tesla V100-SXM2-16GB", torch.float32, 15.7e12),
        ("NVIDIA Nothing", torch.bfloat16, None),
    ],
)
def test_published_rates(name, dtype, rate):
    assert peak.published_flops(name, dtype) == rate


def test_the_cpu_is_measured_once(monkeypatch):
    rate = peak.peak_flops("cpu", torch.float32)
    assert 1e8 < rate < 1e15
    monkeypatch.setattr(peak.time, "perf_counter", lambda: pytest.fail("measured again"))
    assert peak.peak_flops("cpu", torch.float32) == rate
    assert peak.peak_flops("meta", torch.float32) is None
