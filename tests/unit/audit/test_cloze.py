"""Cloze items, and the words they ask for."""

import re

import numpy as np
import pytest

from memsinks.audit import DocumentLosses
from memsinks.audit.cloze import ClozeItem, completed, ranks, reordered, template
from memsinks.audit.mentions import mentions
from memsinks.errors import InputError


def by_words(text):
    """Tokens that are words with the blank before, and signs."""
    return [match.span() for match in re.finditer(r" ?\w+|[^\w ]", text)]


def found(text):
    return [(m.word, m.name) for m in mentions(text, by_words(text))]


def test_names_and_words_at_their_first_mention():
    text = "Once a hen met Ida. Bo saw Ida, and the hen ran. We like Ida and Bo."
    assert found(text) == [("hen", False), ("met", False), ("Ida", True)] + [
        (w, False) for w in ("saw", "and", "the", "ran", "like")
    ]


def test_what_was_hinted_at_before_is_no_first_mention():
    assert found("A henhouse has a hen. Some IDA met Ida.") == [
        (w, False) for w in ("henhouse", "has", "met")
    ]  # "hen" is in "henhouse", and "Ida" in "IDA"


def test_tokens_of_a_mention():
    text = "So the fox ran."
    fox = mentions(text, by_words(text))[1]
    assert (fox.word, fox.start, fox.stop, text[fox.begin :][:3]) == ("fox", 2, 3, "fox")
    # The token holds more than the word, so that the word has none of its own.
    assert mentions(text, [(0, 2), (2, 10), (10, 14), (14, 15)])[0].word == "ran"


def test_a_template_where_the_text_introduces_a_name():
    assert template("Once there was a little sheep named ") == "The name of the little sheep was"
    assert template("He met his uncle, called ") == "The name of the uncle was"
    assert template("The old king's name was ") == "The name of the old king was"
    assert template("Then she saw ") is None


def test_other_sentences_come_first_and_none_gives_the_word_away():
    text = "It was late. We met a hen named Ida. Ida was cold. All was well. The end!"
    context = reordered(text, text.index("Ida"), "Ida", np.random.default_rng(0))
    assert context.endswith(" We met a hen named")
    assert "Ida" not in context
    first = context.removesuffix(" We met a hen named")
    assert sorted(re.split(r"(?<=[.!]) ", first)) == ["All was well.", "It was late.", "The end!"]
    assert reordered("We met Ida. It was late.", 7, "Ida", np.random.default_rng(0)) is None


def test_only_the_candidate_is_scored():
    item = ClozeItem("story", 7, np.array([1, 2, 3]), np.array([[4, 5], [6, 7]]))
    documents = completed([item])
    assert [d.tokens.tolist() for d in documents] == [[1, 2, 3, 4, 5], [1, 2, 3, 6, 7]]
    assert {(d.scored_from, d.sequence_id) for d in documents} == {(3, 7)}


def test_ranks_by_hand():
    losses = [1.0, 2, 3, 5, 4, 9, 2, 2, 1]
    table = DocumentLosses(tuple(map(str, range(9))), np.array(losses), np.ones(9, dtype=np.int64))
    assert ranks(table, 3).tolist() == [1, 2, 3], "a tie counts against the right one"
    with pytest.raises(InputError, match="not those of items"):
        ranks(table, 2)
    with pytest.raises(InputError, match="not those of items"):
        ranks(DocumentLosses((), np.zeros(0), np.zeros(0, dtype=np.int64)), 2)
    table.loss_sum[3] = np.nan
    with pytest.raises(InputError, match="no finite"):
        ranks(table, 3)
