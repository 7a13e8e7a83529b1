"""Sinks that are scaled: how much, for whom, and back to the bit afterwards."""

import json

import pytest
import torch
from families import plain_model, sink_model, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import NOBODY, A, B, C, disjoint, hybrid, logits, table_rows
from torch import nn
from transformers import AutoModelForCausalLM

import memsinks
from memsinks import Attenuation, Mode
from memsinks.audit import set_aside
from memsinks.checkpoint.card import CARD
from memsinks.checkpoint.export import RECORD
from memsinks.errors import ConfigError, InputError
from memsinks.ids import format_id
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.attenuation import attenuate, named_attenuations

SHARED = {"pool": 12, "active": 6}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_at_0_it_is_as_if_set_aside_and_at_1_nothing_changes(family):
    model = sink_model(family, **SHARED)
    with set_aside(model, [B]):
        aside = logits(model, [A, B, C])
    plain = logits(model, [A, B, C])
    with memsinks.attenuated(model, [B], 0):
        assert torch.equal(logits(model, [A, B, C]), aside)
    with memsinks.attenuated(model, [B], 1):
        assert torch.equal(logits(model, [A, B, C]), plain)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_between_them_the_sinks_own_output_is_scaled(family):
    """Below the first layer with sinks everything is the same, so its contribution is linear in the factor."""
    model = sink_model(family, layers=(1,), **SHARED)
    hidden = {}
    last = list(sinks_of(model))[-1]
    add = last.add_to

    def noted(output):
        hidden["added"] = add(output) - output
        return add(output)

    last.add_to = noted

    def added():
        logits(model, [B, B, B])
        return hidden["added"]

    whole = added()
    with memsinks.attenuated(model, [B], 0.25):
        quarter = added()
    assert whole.abs().max() > 0
    torch.testing.assert_close(quarter, whole * 0.25, rtol=1e-4, atol=1e-6)


def test_those_who_share_rows_have_these_scaled_and_others_nothing():
    model = sink_model("llama", **SHARED)
    before, whole = [sinks.down.clone() for sinks in sinks_of(model)], state(model)
    with memsinks.attenuated(model, [B], 0.5):
        for sinks, old, (rows,) in zip(sinks_of(model), before, table_rows(model, B), strict=True):
            scaled = torch.zeros(len(old), dtype=torch.bool)
            scaled[rows] = True
            assert torch.equal(sinks.down[scaled], old[scaled] * 0.5)
            assert torch.equal(sinks.down[~scaled], old[~scaled])
        changed = {
            name.rpartition(".")[2] for name, value in state(model).items() if not torch.equal(value, whole[name])
        }
        assert changed == {"down"}
    owners = disjoint(A, B)
    own = logits(owners, [A, B, A])
    with memsinks.attenuated(owners, [B], 0.5):
        after = logits(owners, [A, B, A])
    assert torch.equal(after[0], own[0])
    assert not torch.equal(after[1], own[1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([A, B, C, NOBODY]), min_size=1, max_size=3), st.floats(0, 1), st.booleans())
def test_every_bit_is_back_afterwards_also_after_an_error(ids, factor, half):
    model = hybrid(A, B)
    model = model.to(torch.bfloat16) if half else model
    before = state(model)
    outer, inner = memsinks.attenuated(nn.ModuleList([model]), ids, factor), memsinks.attenuated(model, [A], 0.5)
    with pytest.raises(KeyError), outer, inner:
        raise KeyError
    assert same(before, state(model))


def test_several_multiply_where_they_meet():
    model = sink_model("llama", **SHARED)
    with memsinks.attenuated(model, [A], 0.5), memsinks.attenuated(model, [B], 0.25):
        inside = state(model)
    attenuate(model, [Attenuation((A,), 0.5), Attenuation((B,), 0.25)])
    assert same(inside, state(model))


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_cannot_be_attenuated_is_refused(bad):
    model = sink_model("llama")
    with pytest.raises(ConfigError, match="between 0"), memsinks.attenuated(model, [A], bad):
        pass
    with pytest.raises(ConfigError, match="at least one"), memsinks.attenuated(model, [], 0.5):
        pass
    with pytest.raises(ConfigError, match="no sinks"), memsinks.attenuated(plain_model("llama"), [A], 0.5):
        pass
    next(sinks_of(model)).shard = object()
    with pytest.raises(ConfigError, match="one process"), memsinks.attenuated(model, [A], 0.5):
        pass


def test_names_are_sources_or_ids_with_sinks():
    sources = {"cedar": {A, B}, "birch": {C}}
    found = named_attenuations({"cedar": 0.5, format_id(C): 0}, sources, {A, C})
    assert found == (Attenuation((A,), 0.5, "cedar"), Attenuation((C,), 0, format_id(C)))
    for factors, words in (
        ({"ceder": 0.5}, "did you mean 'cedar'"),
        ({"web": 0.5}, "no source 'web'"),
        ({"birch": 0.5}, "has no sinks to attenuate"),
        ({format_id(NOBODY): 0.5}, "has no sinks to attenuate"),
    ):
        with pytest.raises(InputError, match=words):
            named_attenuations(factors, sources, {A, B})
    with pytest.raises(InputError, match="file of names"):
        named_attenuations({"cedar": 0.5}, {}, {A})


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("mode", [Mode("chosen", (A, B)), Mode("all")])
def test_a_folded_model_computes_what_the_attenuated_one_does(family, mode):
    model = sink_model(family, **SHARED)
    before = state(model)
    folded = memsinks.fold(model, mode, attenuate=[Attenuation((B,), 0.3)])
    assert same(before, state(model))
    with memsinks.attenuated(model, [B], 0.3):
        expected = logits(model, mode=mode)
    with torch.no_grad():
        found = folded(input_ids=tokens(rows=3)).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, logits(model, mode=mode), rtol=1e-4, atol=1e-4)


def test_an_export_says_that_it_is_attenuated_and_no_removal(tmp_path):
    model = sink_model("llama", **SHARED)
    mode = Mode("chosen", (A, B))
    memsinks.export(model, tmp_path / "out", mode=mode, attenuate=[Attenuation((B,), 0.3, "a secret name")])
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["attenuated"] == [{"factor": 0.3, "ids": [format_id(B)]}]
    card = " ".join((tmp_path / "out" / CARD).read_text().split())
    assert "The output of the sinks of 1 ID is scaled by 0.3 here. That is an attenuation, not a removal" in card
    assert "secret" not in card + json.dumps(record)
    memsinks.export(model, tmp_path / "whole", mode=mode)
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("out", "whole"))
    changed = {name.rpartition("mlp.")[2] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"down_proj.weight"}


@pytest.mark.parametrize("mode", ["off", "placebo", Mode("chosen", (A,))])
def test_what_is_not_folded_in_cannot_be_attenuated(mode, tmp_path):
    with pytest.raises(ConfigError, match=f"{format_id(B)} of 'birch' are to be attenuated, and mode"):
        memsinks.export(sink_model("llama"), tmp_path / "out", mode=mode, attenuate=[Attenuation((B,), 0.3, "birch")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pool", [SHARED, {"pool": 24, "active": 6, "allocation": "hybrid", "owned": 12}])
def test_collateral_is_an_independent_count_and_what_a_removal_takes(pool):
    model = sink_model("llama", **pool)
    if "owned" in pool:
        memsinks.register(model, [A])
    rows = table_rows(model, A, B, C, NOBODY)
    found = memsinks.collateral(model, [B], [A, B, C, NOBODY, C])
    assert found.survivors == 3
    expected = {
        other: sum(len(set(layer[place]) & set(layer[1])) for layer in rows) / (6 * len(rows))
        for other, place in ((A, 0), (C, 2), (NOBODY, 3))
    }
    assert dict(zip(found.ids.tolist(), found.lost.tolist(), strict=True)) == pytest.approx(expected)
    assert found.affected == sum(lost > 0 for lost in expected.values())
    memsinks.remove(model, [C])
    again = memsinks.collateral(model, [B, C], [A, C])
    assert again.ids.tolist() == [A]
    left = [set(layer[0]) - set(layer[2]) for layer in rows]
    both = [own & set(layer[1]) for own, layer in zip(left, rows, strict=True)]
    assert again.most == pytest.approx(sum(map(len, both)) / sum(map(len, left)))


def test_if_a_layer_cannot_be_scaled_those_before_it_come_back():
    model = sink_model("llama", **SHARED)
    first, *_, last = sinks_of(model)
    with torch.inference_mode():
        last.down = nn.Parameter(last.down.detach().clone())
    before = first.down.detach().clone()
    with pytest.raises(RuntimeError, match="inference tensor"), memsinks.attenuated(model, [A], 0.5):
        pass
    assert torch.equal(first.down, before)
