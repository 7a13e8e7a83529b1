"""What a model writes, and which tokens are its first choice, beside extraction."""

import numpy as np
import pytest
import torch

from memsinks.audit import TokenizedDocument, greedy_extraction
from memsinks.audit.forced import first_choices
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


def test_a_text_of_first_choices_is_extracted(llama):
    documents = make_documents([12, 15, 11])
    written = continuations(llama, documents, **GREEDY)
    own = [
        TokenizedDocument(d.name, np.concatenate([d.tokens[:5], w]), 0) for d, w in zip(documents, written, strict=True)
    ]
    spoilt = [TokenizedDocument(d.name, np.where(np.arange(11) == 8, (d.tokens + 1) % 32, d.tokens), 0) for d in own]
    for several in (own, spoilt, documents):
        extracted = greedy_extraction(llama, several, mode=None, prefix=5, suffix=6).documents
        right = first_choices(llama, several, mode=None, prefix=5, suffix=6, batch_size=2)
        assert right.all(axis=1).tolist() == [e.exact for e in extracted]
        assert [int(row.cumprod().sum()) for row in right] == [e.longest_match for e in extracted]
    assert first_choices(llama, own, mode=None, prefix=5, suffix=6).all()
    assert not first_choices(llama, spoilt, mode=None, prefix=5, suffix=6)[:, 3].any()


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
    first_choices(recording, documents, mode="own", prefix=2, suffix=3)
    assert [call["mode"].kind for call in recording.calls] == ["off", "own"]
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


@pytest.mark.parametrize(("prefix", "suffix"), [(0, 5), (5, 0), (8, 8)])
def test_documents_that_cannot_be_judged(llama, prefix, suffix):
    with pytest.raises(InputError):
        first_choices(llama, make_documents([12]), mode=None, prefix=prefix, suffix=suffix)
