import numpy as np
import pytest
import torch
from pools import A, disjoint, fill_with
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from memsinks.audit import TokenizedDocument
from memsinks.audit.hidden import Pass
from memsinks.audit.lenses import fit_decoder, fit_linear_lens, logit_lens, read_states, unembedded
from memsinks.audit.probes import left_out_scores
from memsinks.audit.reading import forced_reading
from memsinks.errors import InputError

from .conftest import make_documents

LAST = 1


def pass_of(model, **options):
    return Pass(model=model, **({"mode": None, "max_length": 32} | options))


@pytest.fixture
def states(llama, documents):
    return pass_of(llama, batch_tokens=30).states(documents, [0, LAST])


def test_the_last_layers_states_give_the_models_own_output(llama, documents, states):
    expected = forced_reading(llama, documents, mode=None, max_length=32, prefix=2, suffix=3)
    found = read_states(llama, states, LAST, nn.Identity(), prefix=2, suffix=3)
    np.testing.assert_allclose(found.losses.loss_sum, expected.losses.loss_sum, rtol=1e-5)
    np.testing.assert_array_equal(found.losses.tokens, expected.losses.tokens)
    np.testing.assert_array_equal(found.tried, expected.tried)
    np.testing.assert_array_equal(found.exact, expected.exact)


def test_a_passage_that_the_model_would_write_is_exact_through_its_last_states(llama):
    tokens = torch.tensor([[3, 4]])
    for _ in range(4):
        tokens = torch.cat([tokens, llama(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)], 1)
    document = TokenizedDocument("own", tokens[0].numpy(), 0)
    states = pass_of(llama).states([document], [LAST])
    assert read_states(llama, states, LAST, nn.Identity(), prefix=2, suffix=4).exact.tolist() == [True]
    assert read_states(llama, states, LAST, nn.Identity(), prefix=2, suffix=5).tried.tolist() == [False]


def test_the_logit_lens_is_the_model_cut_off_after_a_layer(llama, documents, states):
    found = read_states(llama, states, 0, logit_lens(llama), prefix=2, suffix=3)
    llama.model.layers = llama.model.layers[:1]
    expected = forced_reading(llama, documents, mode=None, max_length=32, prefix=2, suffix=3)
    np.testing.assert_allclose(found.losses.loss_sum, expected.losses.loss_sum, rtol=1e-4)


def test_the_norm_is_found_in_another_family():
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=8, n_positions=8, n_embd=4, n_layer=1, n_head=1))
    states = torch.randn(3, 4)
    torch.testing.assert_close(logit_lens(model)(states), model.transformer.ln_f(states))


def test_weights_in_half_precision_are_read_too(documents):
    config = GPT2Config(vocab_size=32, n_positions=32, n_embd=8, n_layer=2, n_head=1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    states = pass_of(model).states(documents, [0, LAST])
    lens = fit_linear_lens(states, 0, LAST)
    for through in (logit_lens(model), lens, fit_decoder(model, states, 0, lens, steps=2, rate=1e-3, rows=8, seed=0)):
        found = read_states(model, states, 0, through, prefix=2, suffix=3).losses.mean
        assert found == pytest.approx(np.log(32), rel=0.1)


def test_capped_logits_stay_below_their_cap(llama):
    state = 1000 * torch.ones(1, 16)
    llama.config.final_logit_softcapping = 5.0
    assert unembedded(llama, state).abs().max() <= 5


def test_the_linear_lens_solves_least_squares(states):
    lens = fit_linear_lens(states, 0, LAST)
    x, y = (states.layers[layer].double().numpy() for layer in (0, LAST))
    solution, *_ = np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), y, rcond=None)
    best = ((np.hstack([x, np.ones((len(x), 1))]) @ solution - y) ** 2).mean()
    found = ((lens(states.layers[0]).detach().numpy() - y) ** 2).mean()
    assert best <= found < 1.05 * best


def test_the_decoder_begins_as_the_lens_learns_and_leaves_the_model_alone(llama):
    documents = make_documents([30] * 12)
    states = pass_of(llama).states(documents, [0, LAST])
    lens = fit_linear_lens(states, 0, LAST)

    def loss(steps):
        decoder = fit_decoder(llama, states, 0, lens, steps=steps, rate=1e-2, rows=64, seed=0)
        return read_states(llama, states, 0, decoder, prefix=2, suffix=3).losses.mean

    assert loss(0) == pytest.approx(read_states(llama, states, 0, lens, prefix=2, suffix=3).losses.mean, rel=1e-5)
    assert loss(60) < loss(0) - 0.3
    assert loss(60) == loss(60)
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_means_are_those_of_each_document_without_padding(llama, documents):
    found = pass_of(llama).means(documents, [0, LAST])
    for number, document in enumerate(documents):
        alone = pass_of(llama).states([document], [0, LAST])
        for layer in (0, LAST):
            np.testing.assert_allclose(found[layer][number], alone.layers[layer].double().mean(0), atol=1e-5)


def test_own_sinks_change_the_states_and_sinks_off_do_not():
    model = disjoint(A)
    fill_with(model, 3)
    document = TokenizedDocument("d", np.arange(1, 9), A)
    stranger = TokenizedDocument("d", np.arange(1, 9), 12345)
    own, off, other = (
        pass_of(model, mode=mode).states([text], [0]).layers[0]
        for mode, text in (("own", document), ("off", document), ("own", stranger))
    )
    assert not torch.allclose(own, off, atol=1e-3)
    torch.testing.assert_close(other, off)


def test_states_of_nothing_are_refused(llama):
    with pytest.raises(InputError, match="at least one"):
        pass_of(llama).states([], [0])


def test_left_out_scores_find_a_direction_and_are_blind_without_one():
    random = np.random.default_rng(0)
    labels = np.arange(60) < 12
    noise = random.normal(size=(60, 30))
    shifted = noise + labels[:, None] * np.eye(30)[0] * 6
    scores = left_out_scores(shifted, labels)
    assert scores[labels].min() > np.quantile(scores[~labels], 0.9)
    areas = []
    for _ in range(30):
        scores = left_out_scores(random.normal(size=(60, 30)), labels)
        areas.append((scores[labels][:, None] > scores[~labels]).mean())
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)


def test_a_left_out_label_plays_no_part_in_its_own_score():
    random = np.random.default_rng(1)
    features, labels = random.normal(size=(20, 5)), np.arange(20) < 6
    changed = labels.copy()
    changed[0] = False
    assert left_out_scores(features, labels)[0] == pytest.approx(left_out_scores(features, changed)[0], rel=1e-9)


def test_left_out_scores_are_those_of_the_primal_problem():
    random = np.random.default_rng(2)
    features, labels = random.normal(size=(15, 4)), np.arange(15) < 5
    scores = left_out_scores(features, labels)
    x = (features - features.mean(0)) / features.std(0)
    x = np.hstack([x, np.ones((15, 1))])
    a, b = x[1:], labels[1:]
    weight = np.where(b, 0.5 / b.sum(), 0.5 / (~b).sum()) * len(a)
    primal = np.linalg.solve(a.T @ (weight[:, None] * a) + 5 * np.eye(5), a.T @ (weight * np.where(b, 1.0, -1.0)))
    assert scores[0] == pytest.approx(x[0] @ primal)


def test_a_probe_needs_two_of_either_kind():
    with pytest.raises(InputError, match="two documents of either kind"):
        left_out_scores(np.zeros((4, 2)), np.array([True, False, False, False]))
