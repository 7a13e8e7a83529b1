import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper

from memsinks.audit import TokenizedDocument, document_losses, greedy_extraction
from memsinks.audit.forced import ForcedDocument, Sampling, forced
from memsinks.errors import InputError
from memsinks.sinks.modes import OFF, OWN

from .conftest import VOCABULARY, make_documents


def logits_of(model, document):
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(document.tokens)[None]).logits[0, :-1]


def half_known(model, prefix, known, other, name):
    """A document whose first tokens after the prefix are the model's own, and whose others are not."""
    tokens = torch.from_numpy(make_documents([prefix], seed=known)[0].tokens)[None]
    with torch.no_grad():
        for i in range(known + other):
            first = model(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, first if i < known else (first + 1) % VOCABULARY], dim=1)
    return TokenizedDocument(name, tokens[0].numpy(), 7)


def test_one_pass_tells_what_generate_writes(llama):
    """The same counts of matching tokens as greedy generation, after every prefix."""
    documents = [
        *(half_known(llama, 5, known, 12 - known, f"{known} known") for known in range(13)),
        *make_documents([30, 17, 25]),
    ]
    read = forced(llama, documents, mode=None, batch_tokens=60)
    assert [d.name for d in read] == [d.name for d in documents]
    for prefix in (5, 8, 11):
        generated = greedy_extraction(llama, documents, mode=None, prefix=prefix, suffix=6).documents
        assert [d.matching(prefix, 6) for d in read] == [d.longest_match for d in generated]
        assert [d.exact(prefix, 6) for d in read] == [d.exact for d in generated]
    assert [d.matching(5, 12) for d in read[:13]] == list(range(13))


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(top_k=3), Sampling(temperature=0.5, top_k=100), Sampling(temperature=2, top_k=5)]
)
def test_chances_are_those_that_transformers_samples_by(llama, sampling):
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    documents = make_documents([12, 9, 20])
    for document, read in zip(documents, forced(llama, documents, mode=None, sampling=sampling), strict=True):
        chances = warpers(None, logits_of(llama, document)).softmax(dim=-1).double().numpy()
        expected = chances[np.arange(len(chances)), document.tokens[1:]]
        np.testing.assert_allclose(np.exp(read.log_chance[1:]), expected, rtol=1e-5)
        assert read.log_chance[0] == 0


def test_chances_are_frequencies_of_samples(llama):
    """A suffix of two tokens, drawn many times."""
    document, sampling = make_documents([6])[0], Sampling(temperature=1.5, top_k=6)
    best = logits_of(llama, document).argsort(dim=-1, descending=True)
    document.tokens[4] = int(best[3, 1])
    document.tokens[5] = int(logits_of(llama, document).argsort(dim=-1, descending=True)[4, 2])
    chance = np.exp(forced(llama, [document], mode=None, sampling=sampling)[0].suffix_log_chance(4, 2))
    torch.manual_seed(0)
    drawn = llama.generate(
        input_ids=torch.from_numpy(document.tokens[:4])[None].repeat(4000, 1),
        attention_mask=torch.ones(4000, 4, dtype=torch.int64),
        do_sample=True,
        temperature=1.5,
        top_k=6,
        max_new_tokens=2,
        eos_token_id=None,
    )[:, 4:]
    share = (drawn.numpy() == document.tokens[4:]).all(axis=1).mean()
    assert share == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 4000))
    assert chance > 0.01


def test_at_temperature_1_from_all_tokens_chances_are_losses(llama):
    documents = make_documents([20, 31, 9])
    losses = document_losses(llama, documents, mode=None, max_length=64)
    read = forced(llama, documents, mode=None)
    np.testing.assert_allclose([-d.log_chance.sum() for d in read], losses.loss_sum, rtol=1e-5)


def test_a_token_outside_top_k_has_no_chance(llama):
    document = make_documents([8])[0]
    document.tokens[7] = int(logits_of(llama, document)[6].argmin())
    read = forced(llama, [document], mode=None, sampling=Sampling(top_k=5))[0]
    assert read.suffix_log_chance(5, 3) == -np.inf
    assert np.isfinite(forced(llama, [document], mode=None)[0].suffix_log_chance(5, 3))


def test_counts_by_hand():
    choices = np.array([0, 1, 1, 0, 1, 1, 1, 0], dtype=bool)
    read = ForcedDocument("x", choices, np.array([0, -1, -2, -3, -4, -5, -6, -7.0]))
    assert read.longest_run == 3
    assert [read.matching(p, 3) for p in (1, 2, 3, 4, 5)] == [2, 1, 0, 3, 2]
    assert [read.exact(p, 3) for p in (1, 4)] == [False, True]
    assert read.suffix_log_chance(3, 2) == -7


def test_no_match_is_0():
    assert ForcedDocument("x", np.zeros(4, dtype=bool), np.zeros(4)).longest_run == 0


@pytest.mark.parametrize(("prefix", "suffix"), [(0, 3), (3, 0), (3, 3)])
def test_a_suffix_that_is_not_there(prefix, suffix):
    with pytest.raises(InputError, match="'x' has 5 tokens"):
        ForcedDocument("x", np.zeros(5, dtype=bool), np.zeros(5)).matching(prefix, suffix)


@pytest.mark.parametrize("mode", [OWN, OFF])
def test_rows_get_the_mode_and_their_own_ids(recording, mode):
    recording.train()
    documents = make_documents([4, 9, 6])
    forced(recording, documents, mode=mode, batch_tokens=18)
    assert [call["ids"].numpy().view(np.uint64).tolist() for call in recording.calls] == [
        [documents[1].sequence_id, documents[2].sequence_id],
        [documents[0].sequence_id],
    ]
    assert all(c["mode"] == mode and not c["training"] and not c["grad"] for c in recording.calls)
    assert recording.training


@pytest.mark.parametrize("documents", [[], make_documents([3, 0])])
def test_nothing_to_read(llama, documents):
    with pytest.raises(InputError, match="nothing to read"):
        forced(llama, documents, mode=None)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": float("inf")}, {"top_k": 0}])
def test_impossible_sampling(settings):
    with pytest.raises(InputError):
        Sampling(**settings)
