"""Scores of tokens: against the model itself, one document at a time, and against losses."""

import numpy as np
import pytest
import torch

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.audit.token_scores import token_scores
from memsinks.errors import InputError

from .conftest import make_documents


def by_hand(model, tokens):
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=torch.tensor(tokens)[None]).logits[0, :-1].double(), dim=-1).numpy()
    own = log_p[np.arange(len(tokens) - 1), tokens[1:]]
    p = np.exp(log_p)
    mean = (p * log_p).sum(axis=1)
    return log_p.argmax(axis=1), own, mean, np.sqrt((p * log_p**2).sum(axis=1) - mean**2)


def test_scores_are_those_of_one_document_at_a_time(llama, documents):
    found = token_scores(llama.eval(), documents, mode=None, max_length=64, batch_tokens=40)
    for document, scores in zip(documents, found, strict=True):
        predicted, own, mean, deviation = by_hand(llama, document.tokens)
        assert scores.name == document.name
        np.testing.assert_array_equal(scores.tokens, document.tokens[1:])
        np.testing.assert_array_equal(scores.predicted, predicted)
        np.testing.assert_allclose(scores.log_probability, own, atol=1e-5)
        np.testing.assert_allclose(scores.expected, mean, atol=1e-5)
        np.testing.assert_allclose(scores.deviation, deviation, atol=1e-5)


def test_chunks_and_context_count_as_in_losses(llama):
    documents = [*make_documents([20, 9, 17, 8]), TokenizedDocument("late", np.arange(20), 0, scored_from=11)]
    found = token_scores(llama, documents, mode=None, max_length=8, batch_tokens=24)
    losses = document_losses(llama, documents, mode=None, max_length=8)
    np.testing.assert_array_equal([len(s.log_probability) for s in found], losses.tokens)
    np.testing.assert_allclose([s.loss for s in found], losses.per_document, atol=1e-5)
    np.testing.assert_array_equal(found[-1].tokens, [11, 12, 13, 14, 15, 17, 18, 19], "16 begins a chunk")


def test_the_mode_and_ids_reach_the_model(recording, documents):
    token_scores(recording, documents[:1], mode="own", max_length=64)
    (call,) = recording.calls
    assert (call["mode"].kind, call["grad"], call["training"]) == ("own", False, False)
    assert call["ids"].tolist() == [-1], "2**64 - 1 as a bit pattern"


def test_what_cannot_be_read_is_refused(llama):
    with pytest.raises(InputError, match="no documents"):
        token_scores(llama, [], mode=None, max_length=8)
    with pytest.raises(InputError, match="a loss needs 2"):
        token_scores(llama, make_documents([1]), mode=None, max_length=8)
