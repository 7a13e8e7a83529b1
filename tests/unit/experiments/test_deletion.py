"""Deleting sinks: what leaves, and what stays."""

import numpy as np
import pytest
from families import VOCABULARY, sink_model
from pools import A, B, C, disjoint

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.errors import InputError
from memsinks.experiments.deletion import deletion_losses


def documents(*ids):
    random = np.random.default_rng(0)
    return [TokenizedDocument(f"d{i}", random.integers(3, VOCABULARY, 16 + n), i) for n, i in enumerate(ids)]


def losses(model, docs, mode):
    return document_losses(model, docs, mode=mode, max_length=32).loss_sum


@pytest.mark.parametrize(
    "model",
    [
        sink_model("llama", pool=24, active=4),
        sink_model("llama", pool=24, active=4, layers=(1,)),
        disjoint(A, B, C),
    ],
    ids=["hashed", "last layer", "disjoint"],
)
def test_a_text_without_its_sinks_is_that_of_sinks_off(model):
    docs = documents(A, B, C)
    found = deletion_losses(model, docs, max_length=32)
    assert found["right"].names == found["placebo"].names == ("d7", f"d{B}", f"d{C}")
    assert (found["right"].tokens == [15, 16, 17]).all()
    assert np.allclose(found["right"].loss_sum, losses(model, docs, "off"), rtol=1e-6)
    assert not np.allclose(found["right"].loss_sum, losses(model, docs, "own"), rtol=1e-3)


def test_another_texts_sinks_are_no_loss_where_rows_are_owned():
    model, docs = disjoint(A, B, C), documents(A, B, C)
    placebo = deletion_losses(model, docs, max_length=32)["placebo"]
    assert np.allclose(placebo.loss_sum, losses(model, docs, "own"), rtol=1e-6)


def test_a_placebo_takes_what_is_shared():
    model, docs = sink_model("llama", pool=8, active=6), documents(A, B)
    found = deletion_losses(model, docs, max_length=32)
    own = losses(model, docs, "own")
    assert not np.isclose(found["placebo"].loss_sum, own, rtol=1e-3).any()


def test_one_text_has_no_placebo():
    with pytest.raises(InputError, match="another document; 1 were given"):
        deletion_losses(sink_model("llama"), documents(A), max_length=32)
