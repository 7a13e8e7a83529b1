"""What a model writes, beside extraction."""

import numpy as np
import pytest
import torch

from memsinks.audit import greedy_extraction
from memsinks.audit.sampling import continuations
from memsinks.errors import InputError

from .conftest import make_documents

GREEDY = {"mode": None, "prefix": 5, "tokens": 6, "temperature": None}


def test_greedy_words_are_those_of_extraction(llama):
    documents = make_documents([12, 15, 11])
    extracted = greedy_extraction(llama, documents, mode=None, prefix=5, suffix=6).documents
    written = continuations(llama, documents, batch_size=2, **GREEDY)
    for ours, theirs in zip(written, extracted, strict=True):
        np.testing.assert_array_equal(ours, theirs.generated)


def test_samples_follow_the_seed_and_leave_the_random_state_alone(llama):
    documents = make_documents([12, 15, 11])
    before = torch.get_rng_state()
    one, same, other = (
        np.stack(continuations(llama, documents, **{**GREEDY, "temperature": 1.0}, seed=seed)) for seed in (0, 0, 1)
    )
    assert (one == same).all()
    assert (one != other).any()
    assert (torch.get_rng_state() == before).all()


def test_cold_samples_are_greedy(llama):
    documents = make_documents([12, 15])
    cold = continuations(llama, documents, **{**GREEDY, "temperature": 1e-4})
    np.testing.assert_array_equal(cold, continuations(llama, documents, **GREEDY))


def test_a_text_ends_before_its_end_token(llama):
    documents = make_documents([12])
    whole = continuations(llama, documents, **GREEDY)[0]
    cut = continuations(llama, documents, **GREEDY, end=int(whole[3]))[0]
    assert cut.tolist() == whole[: whole.tolist().index(whole[3])].tolist()


def test_sinks_are_told_the_documents_and_the_mode(recording):
    documents = make_documents([12, 15])
    continuations(recording, documents, **{**GREEDY, "mode": "off"})
    assert {call["mode"].kind for call in recording.calls} == {"off"}
    for call in recording.calls:
        assert call["ids"].tolist() == [-1, -2]
        assert not call["grad"]
        assert not call["training"]


@pytest.mark.parametrize("change", [{"prefix": 0}, {"tokens": 0}, {"temperature": 0.0}, {"prefix": 99}])
def test_impossible_sizes(llama, change):
    with pytest.raises(InputError):
        continuations(llama, make_documents([12]), **{**GREEDY, **change})
    with pytest.raises(InputError, match="no documents"):
        continuations(llama, [], **GREEDY)
