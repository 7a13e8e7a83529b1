import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from memsinks.audit import TokenizedDocument
from memsinks.audit.prompts import SYNONYMS, altered, altered_prompt, begin_markers, starts, window
from memsinks.errors import InputError


@pytest.fixture(scope="module")
def tokenizer():
    """One token for each letter; the begin marker is 0."""
    words = {
        "<s>": 0,
        "?": 1,
        **{c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,! ", 2)},
    }
    backend = Tokenizer(models.WordLevel(words, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("case", "A Fox, and.", "a fox, and."),
        ("case", "a fox", "A FOX"),
        ("punctuation", 'It\'s "so", then!', "Its so then"),
        ("synonyms", "The big dog was Happy, not bigger.", "The large dog was Glad, not bigger."),
    ],
)
def test_alterations_by_hand(kind, text, expected):
    assert altered(text, kind) == expected


def test_an_unknown_alteration():
    with pytest.raises(InputError, match="case, punctuation, synonyms"):
        altered("text", "translation")


def test_every_word_of_the_list_is_replaced_by_another():
    for word, other in SYNONYMS.items():
        assert altered(word, "synonyms") == other != word


def test_an_altered_prompt_keeps_begin_markers_and_stops_at_the_prefix(tokenizer):
    tokens = np.array([0, *tokenizer("A fox.big", add_special_tokens=False)["input_ids"]])
    document = TokenizedDocument("x", tokens, 1)
    prompt = altered_prompt(tokenizer, document, 7, "case")
    assert prompt[0] == 0
    assert tokenizer.convert_ids_to_tokens(prompt[1:].tolist()) == list("a fox.")


@pytest.mark.parametrize(("most", "kept"), [(5, "fox."), (8, "a fox."), (1, "")])
def test_of_an_altered_prompt_that_is_too_long_the_last_tokens_are_taken(tokenizer, most, kept):
    tokens = np.array([0, *tokenizer("A fox.big", add_special_tokens=False)["input_ids"]])
    prompt = altered_prompt(tokenizer, TokenizedDocument("x", tokens, 1), 7, "case", most=most)
    assert prompt[0] == 0
    assert tokenizer.convert_ids_to_tokens(prompt[1:].tolist()) == list(kept)


def test_a_prompt_of_which_nothing_is_left(tokenizer):
    tokens = np.array(tokenizer("...ab", add_special_tokens=False)["input_ids"])
    with pytest.raises(InputError, match="nothing is left"):
        altered_prompt(tokenizer, TokenizedDocument("x", tokens, 1), 3, "punctuation")


def test_begin_markers_are_counted(tokenizer):
    assert begin_markers(tokenizer, TokenizedDocument("x", np.array([0, 0, 5, 0]), 1)) == 2
    assert begin_markers(tokenizer, TokenizedDocument("x", np.array([5, 0]), 1)) == 0
    assert begin_markers(tokenizer, TokenizedDocument("x", np.array([0]), 1)) == 1


def test_a_window_follows_the_begin_markers():
    document = TokenizedDocument("x", np.arange(10), 3)
    found = window(document, 4, 3, head=1)
    assert (found.name, found.tokens.tolist(), found.sequence_id) == ("x:4", [0, 4, 5, 6], 3)
    with pytest.raises(InputError, match="no 3 of them from 8"):
        window(document, 8, 3)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2))
def test_places_fit_and_are_not_the_beginning(length, tokens, count, head):
    found = starts(length, tokens, count, head=head)
    assert len(found) == len(set(found)) == min(count, max(0, length - tokens - head))
    assert all(head < start <= length - tokens for start in found)


def test_places_reach_from_end_to_end():
    assert starts(100, 10, 3) == [1, 45, 90]
