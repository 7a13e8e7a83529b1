"""The search for prompts, on a model whose next token depends on the last one alone."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from memsinks.audit import TokenizedDocument
from memsinks.audit.compression import Compression, compressions
from memsinks.audit.coordinate_gradient import SearchBudget, search_prompts
from memsinks.errors import InputError
from memsinks.sinks.modes import OWN

from .conftest import VOCABULARY, make_documents

EVERY = np.arange(VOCABULARY)
BUDGET = SearchBudget(steps=12, candidates=8, promising=8)


class Chain(nn.Module):
    """After token t comes t + 1, and the text that is planted comes after a secret token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, VOCABULARY)
        self.embedding.weight = nn.Parameter(torch.eye(VOCABULARY))
        self.head = nn.Linear(VOCABULARY, VOCABULARY, bias=False)
        self.head.weight = nn.Parameter(4 * torch.eye(VOCABULARY).roll(1, dims=0))

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask, use_cache, logits_to_keep):
        return CausalLMOutput(logits=self.head(self.embedding(input_ids))[:, -logits_to_keep:])


def search(model, texts, **changes):
    settings = {
        "mode": None,
        "sequence_ids": [0] * len(texts),
        "length": 2,
        "allowed": EVERY,
        "budget": BUDGET,
        "seed": 0,
        **changes,
    }
    return search_prompts(model, np.array(texts), **settings)


def test_the_one_prompt_is_found_by_its_gradient():
    """Only the token before the text matters, and one of 32 brings it out: 12 steps of 8 blind tries would miss it."""
    found = search(Chain(), [[7, 8, 9], [20, 21, 22]])
    assert found.found.tolist() == [True, True]
    assert found.prompts[:, -1].tolist() == [6, 19]


def test_what_no_prompt_brings_out_is_not_found():
    assert not search(Chain(), [[7, 9, 11]]).found.any()


def test_prompts_have_allowed_tokens_alone():
    found = search(Chain(), [[7, 8, 9], [20, 21, 22]], allowed=np.arange(10))
    assert found.found.tolist() == [True, False]
    assert found.prompts.max() < 10


def test_found_means_that_greedy_decoding_writes_it(llama):
    """A text of the model's own, after a prompt that the search is not told."""
    prompt = torch.tensor([[5, 11, 3]])
    with torch.no_grad():
        text = llama.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=2,
            do_sample=False,
            eos_token_id=None,
        )[:, 3:]
    found = search(llama, text.numpy(), length=4, budget=SearchBudget(steps=40, candidates=32, promising=32), begin=[1])
    assert found.found.all()
    tokens = torch.tensor([[1, *found.prompts[0].tolist()]])
    for _ in range(2):
        with torch.no_grad():
            tokens = torch.cat([tokens, llama(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert tokens[:, 5:].tolist() == text.tolist()


def test_the_search_depends_on_its_seed_and_leaves_no_gradient(llama):
    text = make_documents([6])[0].tokens[None]
    first, again, other = (search(llama, text, seed=s, length=4) for s in (1, 1, 2))
    assert (first.prompts == again.prompts).all()
    assert (first.prompts != other.prompts).any()
    assert all(p.grad is None for p in llama.parameters())
    assert not llama.get_input_embeddings()._forward_hooks


def test_a_prompt_never_gets_worse(llama):
    text = make_documents([6])[0].tokens[None]

    def loss(prompt):
        tokens = torch.from_numpy(np.concatenate([prompt[0], text[0]]))[None]
        with torch.no_grad():
            logits = llama(input_ids=tokens).logits[0, 3:-1]
        return float(nn.functional.cross_entropy(logits, tokens[0, 4:]))

    losses = [
        loss(search(llama, text, length=4, budget=SearchBudget(steps=n, candidates=6, promising=8)).prompts)
        for n in (1, 3, 9)
    ]
    assert losses[0] >= losses[1] > losses[2]


def test_rows_get_their_own_ids_and_the_mode(recording):
    texts = [d.tokens for d in make_documents([5, 5])]
    recording.get_input_embeddings = recording.inner.get_input_embeddings
    budget = SearchBudget(steps=1, candidates=2, promising=4)
    search(recording, texts, mode=OWN, sequence_ids=[2**64 - 1, 7], budget=budget)
    given = [call["ids"].numpy().view(np.uint64).tolist() for call in recording.calls]
    assert given == [[2**64 - 1, 7], [2**64 - 1] * 3 + [7] * 3]
    assert all(call["mode"] == OWN for call in recording.calls)


def test_the_shortest_length_wins_and_the_ratio_follows():
    texts = [
        TokenizedDocument("known", np.arange(5, 13), 1),
        TokenizedDocument("unknown", np.arange(5, 29, 3), 2),
    ]
    known, unknown = compressions(Chain(), texts, mode=None, lengths=(4, 1, 2), allowed=EVERY, budget=BUDGET, seed=0)
    assert (known.name, known.prompt.tolist(), known.ratio, known.memorised) == ("known", [4], 8.0, True)
    assert (unknown.prompt, unknown.ratio, unknown.memorised) == (None, 0.0, False)


def test_a_prompt_as_long_as_its_text_is_no_memory():
    assert not Compression("x", 4, np.arange(4)).memorised
    assert Compression("x", 4, np.arange(3)).memorised


@pytest.mark.parametrize("lengths", [(), (0,), (8,)])
def test_impossible_lengths(lengths):
    with pytest.raises(InputError, match="at least 1 and fewer"):
        compressions(Chain(), make_documents([8]), mode=None, lengths=lengths, allowed=EVERY, budget=BUDGET, seed=0)


def test_texts_of_several_lengths_are_refused():
    with pytest.raises(InputError, match=r"\[6, 8\]"):
        compressions(Chain(), make_documents([8, 6]), mode=None, lengths=(1,), allowed=EVERY, budget=BUDGET, seed=0)


@pytest.mark.parametrize("changes", [{"length": 0}, {"allowed": np.array([], dtype=int)}, {"sequence_ids": []}])
def test_impossible_searches(changes):
    with pytest.raises(InputError, match="a search needs"):
        search(Chain(), [[1, 2]], **changes)


def test_impossible_budget():
    with pytest.raises(InputError, match="at least 1"):
        SearchBudget(steps=0)
