"""Localisation finds a planted memory, and random scores do not."""

import pytest
import torch

from memsinks.audit import document_losses
from memsinks.baselines import localisation as loc

LENGTH, WIDTH, PLANTED = 24, 32, 8

SHARE = PLANTED / WIDTH


def losses(planted, removed):
    with loc.without(planted.model, removed):
        return [
            document_losses(planted.model, docs, mode=None, max_length=LENGTH).mean
            for docs in (planted.memorised, planted.held_out)
        ]


def test_the_plant_is_a_memory_in_the_block(planted, block):
    nothing = [torch.zeros(WIDTH, dtype=torch.bool)] * 2
    before, held_out = losses(planted, nothing)
    assert before < 0.3
    after, held_out_after = losses(planted, block)
    assert after > 3
    assert held_out_after < held_out + 0.1


METHODS = {
    "integrated_gradients": lambda p: loc.integrated_gradients(p.model, p.memorised, max_length=LENGTH),
    "activations": lambda p: loc.activation_scores(p.model, p.memorised, p.other, max_length=LENGTH, contrast=1.0),
    "gradients": lambda p: loc.gradient_scores(p.model, p.memorised, p.other, max_length=LENGTH, contrast=1.0),
    "slimming": lambda p: loc.slimming_scores(p.model, p.memorised, max_length=LENGTH, weight=1.0),
    "hard_concrete": lambda p: loc.hard_concrete_scores(p.model, p.memorised, p.other, max_length=LENGTH, weight=1.0),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_forgets_more_than_chance(planted, method):
    scores = METHODS[method](planted)
    forgotten, _ = losses(planted, loc.highest(scores, SHARE))
    control = [losses(planted, loc.highest(loc.random_scores(planted.model, s), SHARE))[0] for s in range(5)]
    assert forgotten > max(control)


@pytest.mark.parametrize("method", ["activations", "gradients", "hard_concrete"])
def test_contrast_finds_the_block_itself(planted, block, method):
    chosen = loc.highest(METHODS[method](planted), SHARE)
    hit = sum(int((c & b).sum()) for c, b in zip(chosen, block, strict=True))
    assert hit / (2 * PLANTED) > 0.5


def test_most_gates_learn_from_the_first_step(planted):
    """Gates that begin surely open are clamped to 1, learn nothing from the text and end in the order of noise."""

    def scores(steps):
        found = loc.hard_concrete_scores(
            planted.model, planted.memorised, planted.other, max_length=LENGTH, weight=0.0, steps=steps
        )
        return torch.cat(found)

    assert (scores(0) != scores(1)).float().mean() > 0.5


def test_scores_leave_the_model_as_it_was(planted):
    before = {n: p.clone() for n, p in planted.model.named_parameters()}
    for method in METHODS.values():
        method(planted)
    assert all(torch.equal(before[n], p) and p.requires_grad for n, p in planted.model.named_parameters())
    assert not any(m._forward_pre_hooks for m in planted.model.modules())


def test_removing_a_neuron_is_zeroing_its_output_weights(planted, block):
    import copy

    from memsinks.sinks.families import sites

    edited = copy.deepcopy(planted.model)
    with torch.no_grad():
        for site, chosen in zip(sites(edited), block, strict=True):
            site.down.weight[:, chosen] = 0
    ids = torch.arange(12)[None]
    with loc.without(planted.model, block):
        found = planted.model(ids).logits
    torch.testing.assert_close(found, edited(ids).logits)


def test_shares_are_nested_and_exact(planted):
    scores = loc.random_scores(planted.model, 0)
    counts = []
    before = None
    for share in (0.0, 0.1, 0.5, 1.0):
        chosen = torch.cat(loc.highest(scores, share))
        counts.append(int(chosen.sum()))
        assert before is None or bool((chosen | ~before).all())
        before = chosen
    assert counts == [0, 6, 32, 64]
    # Equal scores do not add neurons.
    assert int(torch.cat(loc.highest([torch.zeros(10)], 0.3)).sum()) == 3


def test_integrated_gradients_are_complete(planted):
    """Their sum over a layer is what the layer's neurons add to the log-likelihood."""
    from memsinks.baselines.text import padded, token_losses

    scores = loc.integrated_gradients(planted.model, planted.memorised, max_length=LENGTH, steps=64)
    inputs, labels = padded(planted.memorised, LENGTH)
    with torch.no_grad():
        whole = -token_losses(planted.model, inputs, labels).sum()
        for layer in range(2):
            removed = [torch.full((WIDTH,), i == layer) for i in range(2)]
            with loc.without(planted.model, removed):
                rest = -token_losses(planted.model, inputs, labels).sum()
            assert float(scores[layer].sum()) == pytest.approx(float(whole - rest), rel=0.02)
