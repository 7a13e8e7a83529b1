import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pools import A, disjoint
from torch import nn

from memsinks.audit.coarsening import pruned, quantised, round_to_nearest, without_smallest
from memsinks.errors import ConfigError
from memsinks.sinks.attach import sinks_of


def test_rounding_by_hand():
    weight = torch.tensor([[7.0, -3.4, 0.6, 0.4], [0.0, 0.0, 0.0, 0.0], [-1.4, 0.7, 0.1, 0.29]])
    # Four bits hold -7 to 7; the first row's scale is 1, the last one's 0.2.
    expected = torch.tensor([[7.0, -3.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-1.4, 0.8, 0.0, 0.2]])
    torch.testing.assert_close(round_to_nearest(weight, 4), expected)


def test_groups_have_scales_of_their_own_and_the_last_may_be_short():
    weight = torch.tensor([[7.0, 0.4, 0.07, 0.031, 70.0]])
    torch.testing.assert_close(round_to_nearest(weight, 4, 2), torch.tensor([[7.0, 0.0, 0.07, 0.03, 70.0]]))


@given(st.integers(2, 8), st.sampled_from([None, 1, 3, 8]), st.integers(0, 5))
def test_rounding_is_off_by_half_a_scale_at_most_has_few_values_and_is_idempotent(bits, group, seed):
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
    rounded = round_to_nearest(weight, bits, group)
    most = 2 ** (bits - 1) - 1
    for part, other in zip(weight.split(group or 8, 1), rounded.split(group or 8, 1), strict=True):
        scale = part.abs().amax(1, keepdim=True) / most
        assert ((part - other).abs() <= scale / 2 + 1e-6).all()
        assert len(torch.unique((other / scale).round())) <= 2 * most + 1
        torch.testing.assert_close(other.abs().amax(1), part.abs().amax(1))
    torch.testing.assert_close(round_to_nearest(rounded, bits, group), rounded)


def test_pruning_by_hand():
    weight = torch.tensor([[0.1, -5.0], [2.0, -0.2]])
    assert without_smallest(weight, 0.5).tolist() == [[0.0, -5.0], [2.0, 0.0]]
    torch.testing.assert_close(without_smallest(weight, 0.0), weight)


def test_matrices_change_norms_do_not_and_the_model_is_left_alone(llama):
    before = copy.deepcopy(llama.state_dict())
    rounded, thinned = quantised(llama, 4, group=8), pruned(llama, 0.5)
    for name, weight in before.items():
        torch.testing.assert_close(llama.state_dict()[name], weight, rtol=0, atol=0)
        if weight.ndim == 1:
            assert torch.equal(rounded.state_dict()[name], weight)
        else:
            torch.testing.assert_close(rounded.state_dict()[name], round_to_nearest(weight, 4, 8))
    matrices = [m for m in thinned.modules() if isinstance(m, nn.Linear)]
    shares = [(m.weight == 0).float().mean().item() for m in matrices]
    assert shares == pytest.approx([0.5] * len(shares))
    assert torch.equal(thinned.get_input_embeddings().weight, before["model.embed_tokens.weight"])


def test_sinks_are_rounded_too_with_a_scale_for_each_output():
    model = disjoint(A)
    for sinks in sinks_of(model):
        nn.init.normal_(sinks.down)
    rounded = quantised(model, 4)
    for before, after in zip(sinks_of(model), sinks_of(rounded), strict=True):
        torch.testing.assert_close(after.up, round_to_nearest(before.up, 4))
        # One column of down is one output.
        torch.testing.assert_close(after.down, round_to_nearest(before.down.T, 4).T)


@pytest.mark.parametrize(("bits", "group"), [(1, None), (9, None), (4, 0)])
def test_impossible_integers_are_refused(llama, bits, group):
    with pytest.raises(ConfigError, match="2 to 8 bits"):
        quantised(llama, bits, group=group)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_impossible_fractions_are_refused(llama, fraction):
    with pytest.raises(ConfigError, match="fraction"):
        pruned(llama, fraction)
