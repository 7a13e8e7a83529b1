"""Attaching and detaching: what a model gains, keeps, and gets back."""

import copy
import inspect

import pytest
import torch
from families import FAMILY_NAMES, LAYERS, plain_model, sink_model, tokens
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import memsinks
from memsinks import SinkConfig
from memsinks.errors import ConfigError, UnsupportedModelError
from memsinks.sinks.attach import sinks_of

CONFIG = SinkConfig(pool=12, active=4)


def state(model) -> dict:
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_signature_names_our_keywords_and_the_base_s(family):
    plain = plain_model(family)
    base = dict(inspect.signature(plain.forward).parameters)
    ours = dict(inspect.signature(memsinks.attach(plain, CONFIG).forward).parameters)
    assert ours.keys() - base.keys() == {"sequence_ids", "sink_mask", "sink_frozen"}
    for name in ("sequence_ids", "sink_mask", "sink_frozen"):
        assert ours.pop(name).default is None
    assert list(ours.values()) == list(base.values())


def test_the_base_keeps_its_keys_values_config_and_name():
    plain = plain_model("llama")
    before, config, name, class_ = state(plain), copy.deepcopy(plain.config), repr(type(plain)), type(plain)
    model = memsinks.attach(plain, CONFIG)
    assert model is plain
    assert repr(type(model)) == name
    assert isinstance(model, class_)
    assert model.config == config
    after = state(model)
    assert_same({k: v for k, v in after.items() if ".sinks." not in k}, before)
    added = {k: tuple(v.shape) for k, v in after.items() if ".sinks." in k}
    hidden = config.hidden_size
    assert added == {
        f"model.layers.{i}.mlp.sinks.{part}": (12, 1 if "bias" in part else hidden)
        for i in range(LAYERS)
        for part in ("up", "down", "gate", "up_bias", "gate_bias")
    }
    assert len(list(model.parameters())) == len(after)


def test_attach_twice_is_refused_and_changes_nothing():
    model = sink_model("llama")
    before = state(model)
    with pytest.raises(ConfigError, match=r"has sinks already.*detach"):
        memsinks.attach(model, CONFIG)
    assert_same(state(model), before)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_detach_restores_the_plain_model(family):
    plain, x = plain_model(family), tokens()
    before, logits = state(plain), plain(input_ids=x).logits
    classes = [type(m) for m in plain.modules()]
    own = set(vars(plain))
    model = memsinks.attach(plain, CONFIG)
    model(input_ids=x, sequence_ids=torch.arange(3))
    assert memsinks.detach(model) is plain
    assert [type(m) for m in plain.modules()] == classes
    assert set(vars(plain)) == own
    assert not any("sink" in key for module in plain.modules() for key in vars(module))
    assert_same(state(plain), before)
    assert torch.equal(plain(input_ids=x).logits, logits)
    assert "sequence_ids" not in inspect.signature(plain.forward).parameters


def test_detach_needs_sinks_and_attach_works_again():
    model = memsinks.detach(sink_model("llama"))
    with pytest.raises(ConfigError, match="no sinks"):
        memsinks.detach(model)
    again = memsinks.attach(model, SinkConfig(pool=7, active=7))
    assert next(sinks_of(again)).up.shape[0] == 7
    again(input_ids=tokens(), sequence_ids=torch.arange(3))


def test_a_deep_copy_is_its_own_model():
    model, x, ids = sink_model("llama"), tokens(), torch.arange(3)
    logits = model(input_ids=x, sequence_ids=ids).logits
    twin = copy.deepcopy(model)
    assert torch.equal(twin(input_ids=x, sequence_ids=ids).logits, logits)
    for ours, theirs in zip(model.modules(), twin.modules(), strict=True):
        assert ours is not theirs
        if "_sinks" in vars(theirs):
            assert vars(theirs)["_sinks"] in set(sinks_of(twin))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(model(input_ids=x, sequence_ids=ids).logits, logits)
    with memsinks.sinks_off(twin):
        assert torch.equal(model(input_ids=x, sequence_ids=ids).logits, logits)


# Initial values


def test_random_for_a_new_model():
    model, x = memsinks.attach(plain_model("llama"), SinkConfig(pool=400, active=100)), tokens()
    for sinks in sinks_of(model):
        for weight in (sinks.up, sinks.gate, sinks.down):
            assert weight.std().item() == pytest.approx(model.config.initializer_range, rel=0.05)
            assert abs(weight.mean().item()) < 0.002
        assert not sinks.up_bias.any()
    first, second = (torch.cat([s.up, s.gate, s.down]) for s in sinks_of(model))
    assert not torch.equal(first, second)
    assert len({w.flatten()[0].item() for s in sinks_of(model) for w in (s.up, s.gate, s.down)}) == 3 * LAYERS
    with torch.no_grad():
        assert not torch.equal(model(input_ids=x, sequence_ids=torch.arange(3)).logits, model(input_ids=x).logits)


def test_initial_values_follow_the_seed_alone():
    def values(seed: int):
        torch.manual_seed(torch.seed())
        return torch.cat([s.down for s in sinks_of(memsinks.attach(plain_model("llama"), seeded(seed)))])

    def seeded(seed: int) -> SinkConfig:
        return SinkConfig(pool=12, active=4, seed=seed)

    assert torch.equal(values(3), values(3))
    assert not torch.equal(values(3), values(4))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_nothing_changes_for_a_pretrained_model(family, tmp_path):
    x = tokens()
    plain_model(family).save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    logits = plain(input_ids=x).logits
    model = memsinks.attach(plain, CONFIG)
    assert torch.equal(model(input_ids=x, sequence_ids=torch.arange(3)).logits, logits)
    with memsinks.sinks_all(model):
        assert torch.equal(model(input_ids=x).logits, logits)
    # It can still learn: the output rows get a gradient.
    model(input_ids=x, labels=x, sequence_ids=torch.arange(3)).loss.backward()
    assert all(sinks.down.grad.abs().sum() > 0 for sinks in sinks_of(model))


def test_a_pretrained_model_may_start_random(tmp_path):
    plain_model("llama").save_pretrained(tmp_path)
    options = {"pool": 12, "active": 4, "init": "random"}
    model = memsinks.attach(AutoModelForCausalLM.from_pretrained(tmp_path), SinkConfig(**options))
    assert all(sinks.down.any() for sinks in sinks_of(model))


def test_a_configuration_that_names_a_checkpoint_starts_as_a_noop(tmp_path):
    """Nothing on a model tells fresh weights from loaded ones but its configuration; the no-op is the safe reading."""
    plain_model("llama").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    assert not any(sinks.down.any() for sinks in sinks_of(memsinks.attach(model, CONFIG)))


def test_a_new_model_may_start_as_a_noop():
    model = memsinks.attach(plain_model("llama"), SinkConfig(pool=12, active=4, init="noop"))
    for sinks in sinks_of(model):
        assert not sinks.down.any()
        assert sinks.up.any()
        assert sinks.gate.any()


def test_fractions_are_of_the_model_s_width():
    model = memsinks.attach(plain_model("llama"), SinkConfig(pool=0.5, active=0.25))
    assert (model.sink_config.pool, model.sink_config.active) == (12, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_sinks_take_the_model_s_dtype(dtype):
    model = sink_model("llama", dtype=dtype)
    assert {p.dtype for s in sinks_of(model) for p in s.parameters()} == {dtype}
    assert model(input_ids=tokens(), sequence_ids=torch.arange(3)).logits.dtype == dtype


# What cannot take sinks


def tiny(model_type: str, **options):
    common = {"vocab_size": 31, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**common, **heads, **options}))


@pytest.mark.parametrize(
    ("model_type", "options", "reason"),
    [
        ("mixtral", {"num_local_experts": 2}, "mixtures of experts"),
        ("qwen3_moe", {"num_experts": 2, "moe_intermediate_size": 8, "head_dim": 4}, "mixtures of experts"),
        ("phi3", {}, "has not been checked"),
    ],
)
def test_unlisted_families_are_refused_with_the_reason(model_type, options, reason):
    model = tiny(model_type, **options)
    before = [type(m) for m in model.modules()]
    with pytest.raises(UnsupportedModelError, match=f"'{model_type}' cannot take sinks: .*{reason}.*Supported: gemma"):
        memsinks.attach(model, CONFIG)
    assert [type(m) for m in model.modules()] == before


def test_a_patched_forward_is_refused():
    model = plain_model("llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: x
    with pytest.raises(UnsupportedModelError, match=r"LlamaMLP .* replaces the stock module"):
        memsinks.attach(model, CONFIG)
    assert not any(".sinks." in key for key in model.state_dict())


def test_a_replaced_mlp_is_refused():
    class FusedMLP(type(plain_model("llama").model.layers[0].mlp)):
        pass

    model = plain_model("llama")
    model.model.layers[0].mlp = FusedMLP(model.config)
    with pytest.raises(UnsupportedModelError, match="FusedMLP"):
        memsinks.attach(model, CONFIG)
    model = plain_model("llama")
    model.model.layers[0].mlp = nn.Identity()
    with pytest.raises(UnsupportedModelError):
        memsinks.attach(model, CONFIG)
    assert not any("sinks" in name for name, _ in model.named_modules())


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 2), lambda: plain_model("llama").model], ids=["linear", "base"])
def test_what_is_not_a_causal_lm_is_refused(make):
    with pytest.raises(UnsupportedModelError, match="causal language model"):
        memsinks.attach(make(), CONFIG)
