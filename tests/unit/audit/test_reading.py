import numpy as np
import pytest
import torch

from memsinks.audit import TokenizedDocument, document_losses, greedy_extraction
from memsinks.audit.reading import forced_reading
from memsinks.errors import InputError

from .conftest import make_documents


def read(model, documents, **options):
    settings = {"mode": None, "max_length": 32, "prefix": 4, "suffix": 3} | options
    return forced_reading(model, documents, **settings)


def continued(model, prefixes, length):
    """Documents that the model itself would write."""
    with torch.no_grad():
        tokens = torch.from_numpy(prefixes)
        for _ in range(length):
            chosen = model(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, chosen], 1)
    return [TokenizedDocument(f"own {i}", row, i) for i, row in enumerate(tokens.numpy())]


def test_losses_are_those_of_document_losses(llama, documents):
    expected = document_losses(llama, documents, mode=None, max_length=32)
    found = read(llama, documents, batch_tokens=30).losses
    np.testing.assert_allclose(found.loss_sum, expected.loss_sum, rtol=1e-5)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert found.names == expected.names


def test_exact_is_what_greedy_extraction_finds(llama):
    prefixes = np.random.default_rng(1).integers(32, size=(4, 4))
    own = continued(llama, prefixes, 5)
    changed = [TokenizedDocument(d.name, np.where(np.arange(9) == 6, (d.tokens + 1) % 32, d.tokens), 0) for d in own]
    documents = [*own, *changed, *make_documents([9, 9, 9])]
    expected = greedy_extraction(llama, documents, mode=None, prefix=4, suffix=3)
    found = read(llama, documents)
    assert found.exact.tolist() == [d.exact for d in expected.documents]
    assert found.exact.tolist() == [True] * 4 + [False] * 7


def test_a_change_outside_the_passage_does_not_matter_and_one_at_its_end_does(llama):
    (own,) = continued(llama, np.random.default_rng(1).integers(32, size=(1, 4)), 5)
    for place, exact in ((6, False), (7, True)):
        tokens = own.tokens.copy()
        tokens[place] = (tokens[place] + 1) % 32
        assert read(llama, [TokenizedDocument("d", tokens, 0)]).exact.tolist() == [exact]


def test_a_document_too_short_for_the_passage_is_not_tried(llama):
    found = read(llama, make_documents([6, 7]))
    assert found.tried.tolist() == [False, True]
    assert not found.exact[0]


def test_text_beyond_max_length_is_not_read(llama):
    (document,) = make_documents([20])
    found = read(llama, [document], max_length=6)
    assert found.losses.tokens.tolist() == [5]
    assert found.tried.tolist() == [False]


def test_what_is_scored_begins_where_the_document_says(llama):
    (document,) = make_documents([20])
    later = TokenizedDocument("d", document.tokens, 0, scored_from=12)
    assert read(llama, [later]).losses.tokens.tolist() == [8]
    np.testing.assert_allclose(
        read(llama, [later]).losses.loss_sum,
        document_losses(llama, [later], mode=None, max_length=32).loss_sum,
        rtol=1e-5,
    )


@pytest.mark.parametrize("options", [{"prefix": 0}, {"suffix": 0}, {"batch_tokens": 0}, {"max_length": 1}])
def test_impossible_sizes_are_refused(llama, documents, options):
    with pytest.raises(InputError, match="at least 1"):
        read(llama, documents, **options)


@pytest.mark.parametrize("lengths", [[], [5, 1]])
def test_there_must_be_something_to_read(llama, lengths):
    with pytest.raises(InputError, match="at least two tokens"):
        read(llama, make_documents(lengths))
