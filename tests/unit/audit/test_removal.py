"""Rows that are set aside: gone for everyone who selects them, and back afterwards."""

import copy

import pytest
import torch
from families import plain_model, sink_model
from pools import NOBODY, A, B, C, disjoint, logits, table_rows
from torch import nn

from memsinks.audit import set_aside
from memsinks.errors import ConfigError
from memsinks.sinks.attach import sinks_of


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_an_owner_whose_rows_are_aside_runs_as_with_sinks_off_and_others_as_before():
    model = disjoint(A, B, C)
    own, off = logits(model, [A, B, C]), logits(model, mode="off")
    with set_aside(model, [B]):
        after = logits(model, [A, B, C])
    assert torch.equal(after[1], off[1])
    assert not torch.equal(own[1], off[1])
    assert torch.equal(after[0], own[0])
    assert torch.equal(after[2], own[2])


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_rows_shared_with_a_hashed_id_are_gone_for_others_too(family):
    """As masked by hand: others keep their choice, less what they share."""
    model = sink_model(family, pool=12, active=6)
    masked = copy.deepcopy(model)
    shared = 0
    for sinks, (kept, removed) in zip(sinks_of(masked), table_rows(model, A, B), strict=True):
        shared += len(set(kept) & set(removed))
        with torch.no_grad():
            sinks.down[removed] = 0
    before, off = logits(model, [A, B, C]), logits(model, mode="off")
    with set_aside(model, [B]):
        after = logits(model, [A, B, C])
    torch.testing.assert_close(after, logits(masked, [A, B, C]), rtol=0, atol=0)
    assert shared
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], off[1])


def test_several_ids_go_together():
    model = disjoint(A, B, C)
    own, off = logits(model, [A, B, C]), logits(model, mode="off")
    with set_aside(model, [C, A]):
        after = logits(model, [A, B, C])
    assert torch.equal(after[0], off[0])
    assert torch.equal(after[1], own[1])
    assert torch.equal(after[2], off[2])


def test_nothing_of_the_rows_is_left_to_read_and_sinks_off_is_the_same():
    model = sink_model("llama")
    rows, off = table_rows(model, A), logits(model, mode="off")
    with set_aside(model, [A]):
        assert torch.equal(logits(model, mode="off"), off)
        for sinks, (chosen,) in zip(sinks_of(model), rows, strict=True):
            assert all(not parameter[chosen].any() for parameter in sinks.parameters())
            assert all(parameter.any() for parameter in sinks.parameters())


def test_everything_is_back_afterwards_also_after_an_error():
    model = sink_model("llama")
    before = state(model)
    with set_aside(model, [A]), set_aside(nn.ModuleList([model]), [A, B]):
        assert not same(before, state(model))
    assert same(before, state(model))
    with pytest.raises(KeyError), set_aside(model, [A]):
        raise KeyError
    assert same(before, state(model))


def test_an_id_without_rows_has_nothing_to_set_aside():
    model = disjoint(A)
    before = state(model)
    with set_aside(model, [NOBODY]):
        assert same(before, state(model))


def test_what_cannot_be_set_aside_is_refused():
    model = sink_model("llama")
    with pytest.raises(ConfigError, match="no sinks"), set_aside(plain_model("llama"), [A]):
        pass
    with pytest.raises(ConfigError, match="at least one"), set_aside(model, []):
        pass
    next(sinks_of(model)).shard = object()
    with pytest.raises(ConfigError, match="one process"), set_aside(model, [A]):
        pass
