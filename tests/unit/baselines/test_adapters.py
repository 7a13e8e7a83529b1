"""Adapters: what learns beside sinks, what idle sinks do, and what merging leaves."""

import copy

import pytest
import torch
from families import plain_model, sink_model, tokens

import memsinks
from memsinks.baselines.adapters import Frozen, Lora
from memsinks.errors import MemsinksError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of
from memsinks.training.config import OptimizerConfig

pytest.importorskip("peft")

ONE, OTHER = 7, 8
CONFIG = OptimizerConfig(learning_rate=1e-2, sink_lr_multiplier=2.0)


def optimizer_of(adapter, model):
    found = adapter.optimizer(model, CONFIG)
    if found is None:
        found = memsinks.SinkAdamW(model, CONFIG.learning_rate, sink_lr_multiplier=CONFIG.sink_lr_multiplier)
    return found


def steps(model, optimizer, sequence_id, count):
    for _ in range(count):
        inputs = tokens(rows=2)
        loss = model(input_ids=inputs, labels=inputs, sequence_ids=to_tensor([sequence_id] * 2)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(before, after):
    return {name for name in before if torch.equal(before[name], after[name])}


def test_with_everything_frozen_only_sinks_learn():
    model = sink_model("llama")
    before = weights(model)
    thaw = Frozen().put_on(model)
    steps(model, optimizer_of(Frozen(), model), ONE, 3)
    after = weights(model)
    assert same(before, after) == {name for name in before if ".sinks." not in name}
    thaw()
    assert all(p.requires_grad for p in model.parameters())


def test_lora_and_sinks_learn_and_the_model_does_not():
    model = sink_model("llama")
    before = weights(model)
    merge = Lora(rank=2).put_on(model)
    learning = [name.split(".") for name, p in model.named_parameters() if p.requires_grad]
    assert {parts[-1 if "sinks" in parts else -3] for parts in learning} == {
        "up", "down", "gate", "up_bias", "gate_bias", "lora_A", "lora_B",
    }  # fmt: skip
    steps(model, optimizer_of(Lora(), model), ONE, 3)
    frozen = {name.replace("base_layer.", ""): p for name, p in weights(model).items() if "lora_" not in name}
    assert same(before, frozen) == {name for name in before if ".sinks." not in name}
    with memsinks.sinks_off(model), torch.no_grad():
        wrapped = model(input_ids=tokens()).logits
    assert merge() is model
    merged = weights(model)
    assert merged.keys() == before.keys()
    assert not any("proj.weight" in name and "sinks" not in name for name in same(before, merged))
    with memsinks.sinks_off(model), torch.no_grad():
        assert torch.allclose(model(input_ids=tokens()).logits, wrapped, atol=1e-4)


@pytest.mark.parametrize("isolated", [True, False])
def test_idle_sinks_move_under_the_stock_optimiser_only(isolated):
    model = sink_model("llama", pool=64, active=4)
    adapter = Lora(rank=2, isolated=isolated)
    adapter.put_on(model)
    optimizer = optimizer_of(adapter, model)
    steps(model, optimizer, ONE, 2)
    before = copy.deepcopy([sinks.down.detach() for sinks in sinks_of(model)])
    steps(model, optimizer, OTHER, 2)
    chosen = model.sink_allocation.rows(to_tensor([ONE, OTHER]), model.sink_config, 2)
    for layer, (old, sinks) in enumerate(zip(before, sinks_of(model), strict=True)):
        idle = list(set(chosen[layer, 0].tolist()) - set(chosen[layer, 1].tolist()))
        assert idle
        assert torch.equal(old[idle], sinks.down[idle]) == isolated


def test_the_stock_optimiser_has_both_rates():
    model = sink_model("llama")
    adapter = Lora(isolated=False)
    adapter.put_on(model)
    groups = adapter.optimizer(model, CONFIG).param_groups
    assert [group["lr"] for group in groups] == [1e-2, 2e-2]
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def test_lora_needs_no_sinks():
    model = plain_model("llama")
    merge = Lora(rank=2, isolated=False).put_on(model)
    assert len(Lora(isolated=False).optimizer(model, CONFIG).param_groups) == 1
    assert merge() is model


def test_without_peft_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MemsinksError, match=r"pip install .*experiments"):
        Lora().put_on(plain_model("llama"))
