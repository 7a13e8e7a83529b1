"""Each unlearning method moves its own target, and what it keeps, in the direction that it claims."""

import copy

import pytest
import torch

from memsinks.audit import document_losses
from memsinks.baselines.text import endless, padded
from memsinks.baselines.unlearning import METHODS, UnlearnConfig, unlearn
from memsinks.errors import ConfigError, InputError

LENGTH = 24
RATES = {"ga": 1e-3, "grad_diff": 1e-3, "npo": 1e-3, "rmu": 5e-3}


def losses(model, planted):
    return [document_losses(model, d, mode=None, max_length=LENGTH).mean for d in (planted.memorised, planted.held_out)]


@pytest.mark.parametrize("method", METHODS)
def test_the_text_is_unlearned(planted, method):
    model = copy.deepcopy(planted.model)
    before, _ = losses(model, planted)
    seen = []
    config = UnlearnConfig(method=method, learning_rate=RATES[method], steps=30, rows=4)
    unlearn(model, planted.memorised, planted.other, config, max_length=LENGTH, at=seen.append)
    after, _ = losses(model, planted)
    assert after > before + 1
    assert seen == list(range(1, 31))
    # The original is untouched, and no gradient is left behind.
    assert losses(planted.model, planted)[0] == before
    assert all(p.grad is None for p in model.parameters())


def test_retained_text_suffers_less_with_a_term_that_keeps_it(planted):
    held_out = {}
    for method in ("ga", "grad_diff"):
        model = copy.deepcopy(planted.model)
        config = UnlearnConfig(method=method, learning_rate=1e-3, steps=30, rows=4)
        unlearn(model, planted.memorised, planted.other, config, max_length=LENGTH)
        held_out[method] = losses(model, planted)[1]
    assert held_out["grad_diff"] < held_out["ga"]


def test_npo_saturates_where_ascent_goes_on(planted):
    forgotten = {}
    for method in ("grad_diff", "npo"):
        model = copy.deepcopy(planted.model)
        config = UnlearnConfig(method=method, learning_rate=2e-3, steps=60, rows=4, beta=4.0)
        unlearn(model, planted.memorised, planted.other, config, max_length=LENGTH)
        forgotten[method] = losses(model, planted)[0]
    assert forgotten["npo"] < forgotten["grad_diff"]


def test_rmu_changes_output_weights_of_its_layers_only(planted):
    model = copy.deepcopy(planted.model)
    config = UnlearnConfig(method="rmu", learning_rate=1e-3, steps=2, rows=2)
    unlearn(model, planted.memorised, planted.other, config, max_length=LENGTH)
    changed = {
        name
        for (name, a), b in zip(model.named_parameters(), planted.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {"model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"}


def test_an_unknown_method_is_named():
    with pytest.raises(ConfigError, match="'forgetitall' is unknown"):
        UnlearnConfig(method="forgetitall", learning_rate=1e-3)


def test_no_text_is_refused():
    with pytest.raises(InputError, match="no text"):
        next(endless([], 8, 2, 0))


def test_tokens_before_the_scored_ones_are_context(planted):
    from memsinks.audit import TokenizedDocument

    document = planted.memorised[0]
    inputs, labels = padded([TokenizedDocument("d", document.tokens, 1, 9)], LENGTH)
    assert (labels[0, :9] == -100).all()
    assert (labels[0, 9:] == inputs[0, 9:]).all()
