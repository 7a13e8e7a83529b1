"""Text from tokens, and stop strings."""

import functools

from hypothesis import given
from hypothesis import strategies as st

from memsinks.corpus.tokenizer import encode_document, train_tokenizer
from memsinks.serving.generation import Generation
from memsinks.serving.sampling import Sampling
from memsinks.serving.text import Detokenizer, StopStrings

SMALL_TEXT = st.text("abc", max_size=20)


@functools.cache
def tokenizer():
    return train_tokenizer(["the cat sat on the mat, naïve " * 3], 300)


@given(st.text(max_size=30), st.text(max_size=10))
def test_pieces_of_text_make_up_the_text(text, before):
    prompt, tokens = (encode_document(tokenizer(), [part])[0].tolist() for part in (before, text))
    detokenizer = Detokenizer(tokenizer(), prompt)
    pieces = [detokenizer.add(token) for token in tokens]
    assert "".join(pieces) + detokenizer.flush() == text


def test_no_half_of_a_character_gets_out():
    detokenizer = Detokenizer(tokenizer(), [])
    tokens = encode_document(tokenizer(), ["\N{SNOWMAN}"])[0].tolist()
    assert [detokenizer.add(token) for token in tokens] == ["", "", "\N{SNOWMAN}"]
    detokenizer.add(tokens[0])
    assert detokenizer.flush() == "\N{REPLACEMENT CHARACTER}"


def oracle(text, stops):
    """The text before the stop string that is complete first, looked for character by character."""
    for end in range(1, len(text) + 1):
        ended = [stop for stop in stops if text[:end].endswith(stop)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@given(st.lists(SMALL_TEXT, max_size=8), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_stop_strings_do_not_depend_on_how_text_is_cut(pieces, strings):
    stops, got = StopStrings(strings), ""
    expected, ends = oracle("".join(pieces), strings)
    for piece in pieces:
        released, stopped = stops.add(piece)
        got += released
        # What is out cannot be taken back.
        assert expected.startswith(got)
        if stopped:
            break
    else:
        stopped = False
        got += stops.flush()
    assert (got, stopped) == (expected, ends)


class Syllables:
    """A tokenizer with two letters for each token."""

    def decode(self, tokens, **options):
        return "".join(("ab", "cd", "ef", "gh")[token] for token in tokens)


def generated(tokens, **options):
    import torch

    pieces = []
    generation = Generation(
        [3],
        Syllables(),
        emit=pieces.append,
        **{"max_tokens": 9, "end": {9}, "sampling": Sampling(temperature=0, logprobs=1)} | options,
    )
    for token in tokens:
        assert generation.finished is None
        assert generation.take(torch.nn.functional.one_hot(torch.tensor(token), 10).float()) == token
    return pieces, generation


def test_a_stop_string_across_tokens_is_not_in_the_text():
    pieces, generation = generated([0, 1, 2], stop=["de"])
    assert "".join(piece.text for piece in pieces) == "abc"
    assert (generation.finished, generation.produced) == ("stop", 3)
    reports = [token for piece in pieces for token in piece.tokens]
    assert [(report.text, report.offset) for report in reports] == [("ab", 0), ("cd", 2)]


def test_what_was_held_back_comes_out_at_the_end():
    pieces, generation = generated([0, 1, 9], stop=["dx"])
    assert [piece.text for piece in pieces] == ["ab", "c", "d"]
    assert generation.finished == "stop"
    pieces, generation = generated([0, 1], stop=["dx"], max_tokens=2)
    assert "".join(piece.text for piece in pieces) == "abcd"
    assert generation.finished == "length"
