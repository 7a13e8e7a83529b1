"""Attacks on membership: each score by hand, and what it must not depend on."""

import zlib

import numpy as np
import pytest
import torch

from memsinks.audit import TokenizedDocument
from memsinks.audit.membership import (
    against_bits,
    against_lowercase,
    against_reference,
    gradient_norms,
    lira,
    loss,
    lowercased,
    matched,
    min_k,
    min_k_plus_plus,
    neighbours,
)
from memsinks.audit.token_scores import TokenScores
from memsinks.corpus.tokenizer import train_tokenizer
from memsinks.errors import InputError

from .conftest import make_documents


def scores(log_probability, expected=-1.0, deviation=1.0):
    own = np.array(log_probability, dtype=float)
    n = len(own)
    return TokenScores("d", np.arange(n), np.arange(n), own, np.full(n, expected), np.full(n, deviation))


def test_loss_and_reference_by_hand():
    assert loss([scores([-1, -3]), scores([-2])]).tolist() == [-2, -2]
    assert against_reference(np.array([2.0, 1.0]), np.array([3.0, 1.0])).tolist() == [1, 0]


def test_zlib_divides_by_what_the_text_compresses_to():
    repeated, varied = "ab" * 100, "the quick brown fox jumps over the lazy dog" * 5
    found = against_bits([scores([-4, -4]), scores([-4, -4])], [repeated, varied])
    np.testing.assert_allclose(found, [-8 / (8 * len(zlib.compress(t.encode()))) for t in (repeated, varied)])
    assert found[0] < found[1], "as many nats are more of a surprise where the text is simple"


def test_lowercase_by_hand():
    found = against_lowercase([scores([-1, -1]), scores([-3])], [scores([-2, -2, -4]), scores([-3])])
    np.testing.assert_allclose(found, [-2 / 8, -1])


def test_min_k_takes_the_least_likely_tokens():
    ten = scores([-1, -2, -9, -1, -1, -5, -1, -1, -1, -1])
    assert min_k([ten], 0.2).tolist() == [-7]
    assert min_k([ten], 1.0).tolist() == [-2.3]
    assert min_k([scores([-1, -4])], 0.2).tolist() == [-4], "at least one token"


def test_min_k_plus_plus_judges_a_token_by_its_place():
    found = min_k_plus_plus([scores([-1, -2, -9, -5, -1], expected=-3.0, deviation=2.0)], 0.4)
    assert found.tolist() == [(-3 - 1) / 2]
    assert np.isfinite(min_k_plus_plus([scores([-1.0], deviation=0.0)])).all()


@pytest.mark.parametrize("attack", [min_k, min_k_plus_plus])
def test_a_share_of_nothing_is_refused(attack):
    for share in (0.0, 1.1):
        with pytest.raises(InputError, match="share"):
            attack([scores([-1])], share)


def test_gradient_norms_are_those_of_the_mean_loss(llama):
    documents = make_documents([9, 12])
    for parameter in llama.lm_head.parameters():
        parameter.requires_grad_(False)
    found = gradient_norms(llama, documents, mode=None, max_length=64)
    assert not any(p.requires_grad for p in llama.lm_head.parameters()), "the model is as it was"
    assert all(p.grad is None for p in llama.parameters())
    llama.requires_grad_(True)
    for document, value in zip(documents, found, strict=True):
        tokens = torch.from_numpy(document.tokens)[None]
        llama.zero_grad()
        llama.eval()(input_ids=tokens, labels=tokens).loss.backward()
        expected = sum(p.grad.double().square().sum().item() for p in llama.parameters()) ** 0.5
        assert value == pytest.approx(-expected, rel=1e-4)


def test_gradients_of_a_long_document_are_of_its_mean_over_chunks(llama):
    document = make_documents([16])[0]
    halves = [TokenizedDocument("h", document.tokens[a : a + 8], 0) for a in (0, 8)]
    found = gradient_norms(llama, [document], mode=None, max_length=8)[0]
    llama.zero_grad()
    for half in halves:
        tokens = torch.from_numpy(half.tokens)[None]
        (llama.eval()(input_ids=tokens, labels=tokens).loss / 2).backward()
    expected = sum(p.grad.double().square().sum().item() for p in llama.parameters()) ** 0.5
    assert found == pytest.approx(-expected, rel=1e-4)


def test_lower_case_keeps_markers_and_ids():
    tokenizer = train_tokenizer(["The Fox saw a DOG. the fox saw a dog."], 300)
    mark = tokenizer.eos_token_id
    inner = tokenizer.encode("The DOG", add_special_tokens=False)
    given = TokenizedDocument("d", np.array([mark, *inner, mark]), 7)
    (found,) = lowercased([given], tokenizer)
    assert (found.name, found.sequence_id) == ("d", 7)
    assert found.tokens[0] == found.tokens[-1] == mark
    assert tokenizer.decode(found.tokens[1:-1].tolist()) == "the dog"


def test_neighbours_swap_some_tokens_for_others_as_frequent():
    counts = np.arange(100)
    documents = make_documents([41, 21])
    documents = [TokenizedDocument(d.name, d.tokens + 10, d.sequence_id) for d in documents]
    found = neighbours(documents, counts, each=3, share=0.25, seed=0, kept=[12])
    assert [d.name for d in found] == [d.name for d in documents for _ in range(3)]
    for variant, document in zip(found, [d for d in documents for _ in range(3)], strict=True):
        changed = np.flatnonzero(variant.tokens != document.tokens)
        kept = (document.tokens == 12) | (np.arange(len(document.tokens)) == 0)
        assert len(changed) == round(0.25 * (~kept).sum())
        assert not kept[changed].any()
        assert 12 not in variant.tokens[changed]
        # Tokens are as frequent as their number; those at either end of the order have near ones on one side only.
        assert (np.abs(variant.tokens[changed] - document.tokens[changed]) <= 17).all()
    assert len({d.tokens.tobytes() for d in found}) == len(found)
    again = neighbours(documents, counts, each=3, share=0.25, seed=0, kept=[12])
    assert all((a.tokens == b.tokens).all() for a, b in zip(found, again, strict=True))


def test_neighbours_of_two_tokens_take_the_other():
    document = TokenizedDocument("d", np.array([0, 1, 0, 1]), 0)
    (found,) = neighbours([document], np.array([5, 3, 0]), each=1, share=1.0, seed=0)
    assert found.tokens.tolist() == [0, 0, 1, 0]


def test_neighbours_that_cannot_be_made_are_refused():
    document = TokenizedDocument("d", np.array([0, 1]), 0)
    with pytest.raises(InputError, match="share"):
        neighbours([document], np.ones(4), each=1, share=0.0, seed=0)
    with pytest.raises(InputError, match="fewer than two tokens"):
        neighbours([document], np.array([0, 1]), each=1, share=0.5, seed=0)
    with pytest.raises(InputError, match="only markers"):
        neighbours([document], np.ones(4), each=1, share=0.5, seed=0, kept=[0, 1])


def test_lira_by_hand():
    shadows = np.array([[-2.0, -3.0], [-4.0, -5.0], [-9.0, -9.0]])
    inside = np.array([[False, False], [False, False], [True, True]])
    found = lira(np.array([-1.0, -4.0]), shadows, inside)
    # Means -3 and -4, and both have deviation √2.
    np.testing.assert_allclose(found, [2 / 2**0.5, 0])


def test_lira_needs_models_without_the_document():
    inside = np.array([[True, False], [False, False], [True, False]])
    with pytest.raises(InputError, match="document 1 of 2 was left out by 1"):
        lira(np.zeros(2), np.zeros((3, 2)), inside)
    with pytest.raises(InputError, match="a column for each"):
        lira(np.zeros(3), np.zeros((3, 2)), inside)


def test_lira_gives_no_document_more_spread_because_more_models_left_it_out():
    random = np.random.default_rng(0)
    inside = np.zeros((8, 4000), dtype=bool)
    inside[:4, :2000] = True
    found = lira(random.normal(size=4000), random.normal(size=(8, 4000)), inside)
    assert found[:2000].std() == pytest.approx(found[2000:].std(), rel=0.06)
    assert abs(found.mean()) < 0.06


def test_members_get_others_of_their_length():
    members, others = np.array([100, 200]), np.array([95, 300, 101, 195, 205, 50, 104, 99])
    found = matched(members, others, 0.1)
    assert found.tolist() == [2, 3, 4, 7], "two rounds: 200 has 195 and 205, 100 has 101 and 99"
    assert matched(members, others, 0.01).tolist() == []
    assert matched(np.array([7]), np.array([], dtype=int)).tolist() == []
    with pytest.raises(InputError, match="at least one member"):
        matched(np.array([], dtype=int), others)


def test_matched_lengths_are_within_the_tolerance():
    random = np.random.default_rng(0)
    members, others = random.integers(50, 200, 10), random.integers(1, 400, 300)
    found = matched(members, others, 0.1)
    assert len(found) % 10 == 0
    assert len(found) >= 20
    assert len(set(found)) == len(found)
    ordered, rounds = np.sort(members), len(found) // 10
    chosen = np.sort(others[found]).reshape(10, rounds)
    assert (np.abs(chosen - ordered[:, None]) <= 0.1 * ordered[:, None]).all()
