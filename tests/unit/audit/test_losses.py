import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from memsinks.audit import TokenizedDocument, document_losses, losses
from memsinks.errors import ConfigError, InputError, SequenceIdError
from memsinks.sinks.modes import OFF, Mode

from .conftest import make_documents


def one_by_one(model, tokens, max_length):
    """The oracle: one chunk at a time, no padding."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens), max_length):
            part = torch.from_numpy(tokens[start : start + max_length])
            if len(part) > 1:
                logits = model(input_ids=part[None]).logits[0, :-1]
                total += F.cross_entropy(logits.double(), part[1:], reduction="sum").item()
    return total


@pytest.mark.parametrize("max_length", [2, 6, 64])
@pytest.mark.parametrize("batch_tokens", [1, 21, 16384])
def test_equals_the_oracle(llama, documents, max_length, batch_tokens):
    result = document_losses(llama, documents, mode=None, max_length=max_length, batch_tokens=batch_tokens)
    expected = [one_by_one(llama, d.tokens, max_length) for d in documents]
    np.testing.assert_allclose(result.loss_sum, expected, rtol=1e-5)
    assert result.names == tuple(d.name for d in documents)


def test_each_token_but_a_chunks_first_is_scored_once(llama, documents):
    result = document_losses(llama, documents, mode=None, max_length=6)
    # 7 = 6 + 1, 3, 20 = 6 + 6 + 6 + 2, 2, 13 = 6 + 6 + 1
    assert result.tokens.tolist() == [5, 2, 16, 1, 10]


def test_slicing_the_logits_changes_nothing(llama, documents, monkeypatch):
    whole = document_losses(llama, documents, mode=None, max_length=64)
    monkeypatch.setattr(losses, "SLICE_TOKENS", 3)
    sliced = document_losses(llama, documents, mode=None, max_length=64)
    np.testing.assert_allclose(sliced.loss_sum, whole.loss_sum, rtol=1e-6)


def test_mean_is_weighted_by_tokens():
    result = losses.DocumentLosses(("a", "b"), np.array([6.0, 1.0]), np.array([3, 1]))
    assert result.mean == 7 / 4
    assert result.per_document.tolist() == [2.0, 1.0]
    assert len(result) == 2
    assert json.loads(json.dumps(result.to_json())) == {
        "mean": 1.75,
        "names": ["a", "b"],
        "loss_sum": [6.0, 1.0],
        "tokens": [3, 1],
    }


def test_sinks_get_the_mode_and_each_rows_id(recording, documents):
    result = document_losses(recording, documents, mode="placebo", max_length=64, batch_tokens=26)
    by_length = sorted(documents, key=lambda d: -len(d.tokens))
    seen = [i for call in recording.calls for i in call["ids"].numpy().view(np.uint64).tolist()]
    assert seen == [d.sequence_id for d in by_length]
    assert {call["mode"] for call in recording.calls} == {Mode("placebo")}
    for call in recording.calls:
        assert call["ids"].dtype == torch.int64
        assert call["ids"].shape == call["input_ids"].shape[:1]
        assert call["input_ids"].numel() <= 26
        assert not call["training"]
        assert not call["grad"]
    assert recording.sink_mode == "before"
    plain = document_losses(recording.inner, documents, mode=None, max_length=64)
    np.testing.assert_allclose(result.loss_sum, plain.loss_sum, rtol=1e-6)


def test_training_flags_come_back_one_by_one(recording, documents):
    recording.train()
    recording.inner.model.layers[0].eval()
    before = [m.training for m in recording.modules()]
    document_losses(recording, documents, mode=OFF, max_length=64)
    assert [m.training for m in recording.modules()] == before


def test_everything_comes_back_after_an_error(recording, documents):
    recording.train()
    bad = TokenizedDocument("bad", np.array([1, 10**6]), 0)
    with pytest.raises(IndexError):
        document_losses(recording, [bad], mode=OFF, max_length=64)
    assert recording.sink_mode == "before"
    assert all(m.training for m in recording.modules())
    assert torch.is_grad_enabled()


def test_training_goes_on_after_a_measurement(llama, documents):
    llama.train()
    document_losses(llama, documents, mode=None, max_length=64)
    tokens = torch.from_numpy(documents[0].tokens)[None]
    llama(input_ids=tokens, labels=tokens).loss.backward()
    assert llama.lm_head.weight.grad is not None


def test_autocast_is_close(llama, documents):
    exact = document_losses(llama, documents, mode=None, max_length=64)
    half = document_losses(llama, documents, mode=None, max_length=64, autocast=True)
    assert half.mean != exact.mean
    assert half.mean == pytest.approx(exact.mean, rel=0.05)


def test_progress_goes_to_stderr(llama, documents, capsys):
    document_losses(llama, documents, mode=None, max_length=64, progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("documents", "sizes", "message"),
    [
        ([], {}, "no documents"),
        (make_documents([5, 1]), {}, "'story 1' has 1 token"),
        (make_documents([0]), {}, "'story 0' has 0 token"),
        (make_documents([5]), {"max_length": 1}, "max_length"),
        (make_documents([5]), {"batch_tokens": 0}, "batch_tokens"),
    ],
)
def test_refuses(llama, documents, sizes, message):
    with pytest.raises(InputError, match=message):
        document_losses(llama, documents, mode=None, **({"max_length": 64} | sizes))


def test_a_mode_needs_sinks(llama, documents):
    with pytest.raises(ConfigError, match="no sinks"):
        document_losses(llama, documents, mode="off", max_length=64)


@pytest.mark.parametrize("tokens", [np.zeros((2, 2), dtype=int), np.zeros(3), ["a"]])
def test_tokens_are_one_row_of_integers(tokens):
    with pytest.raises(InputError, match="'x'"):
        TokenizedDocument("x", tokens, 0)


def test_sequence_id_is_uint64():
    with pytest.raises(SequenceIdError):
        TokenizedDocument("x", np.array([1, 2]), -1)
