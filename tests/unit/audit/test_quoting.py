"""Examples quote a document where they may, and only there."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit.quoting import example


class Letters:
    """A tokenizer whose tokens are letters."""

    def decode(self, tokens):
        return "".join(chr(t) for t in tokens)


def made(given, expected, written, quote, texts=()):
    arrays = {
        name: np.array([ord(c) for c in text], dtype=np.int64)
        for name, text in {"given": given, "expected": expected, "written": written}.items()
    }
    return example(
        Letters(), **arrays, quote=quote, section="extraction", measure="greedy", condition="own", document="d",
        texts=texts,
    )  # fmt: skip


def shown(passages):
    return [(p.text, p.matching) for p in passages]


def test_matching_runs_are_marked_on_both_sides():
    found = made("abc", "defgh", "deXgY", quote=True)
    assert shown(found.given) == [("abc", True)]
    assert shown(found.expected) == [("de", True), ("f", False), ("g", True), ("h", False)]
    assert shown(found.written) == [("de", True), ("X", False), ("g", True), ("Y", False)]


def test_without_quoting_only_what_the_model_made_up_is_shown():
    found = made("abc", "defgh", "deXgY", quote=False)
    assert shown(found.written) == [(None, True), ("X", False), (None, True), ("Y", False)]
    assert [p.tokens for p in found.expected] == [2, 1, 1, 1]


def test_a_hash_is_of_so_many_tokens_that_trying_does_not_undo_it():
    long = "abcdefgh" * 4
    found = made("abc", long + "x", long + "y", quote=False)
    assert [p.sha256 for p in found.expected] == [hashlib.sha256(long.encode()).hexdigest(), None]
    assert [p.sha256 for p in (*found.given, *found.written)] == [None, found.expected[0].sha256, None]


def test_words_of_the_document_at_another_place_are_not_shown():
    found = made("abc", "defgh", "Xdefg", quote=False)
    assert shown(found.written) == [("X", False), (None, False)]
    assert shown(made("abc", "defgh", "abcde", quote=False).written) == [(None, False)]
    assert shown(made("abc", "defgh", "Xdefg", quote=True).written) == [("Xdefg", False)]


def test_words_of_other_documents_are_not_shown():
    other = np.array([ord(c) for c in "uvwxyz"])
    found = made("abc", "defgh", "Xvwx1", quote=False, texts=[other])
    assert shown(found.written) == [("X", False), (None, False), ("1", False)]


WORDS = st.text("abcdef", min_size=12, max_size=12)


@given(WORDS, st.text("uvwxyz", min_size=8, max_size=8), st.sets(st.integers(0, 7)))
def test_no_word_of_the_document_is_in_an_example_that_does_not_quote(text, made_up, same):
    expected = text[4:]
    written = "".join(expected[i] if i in same else made_up[i] for i in range(8))
    found = made(text[:4], expected, written, quote=False)
    texts = [p.text for p in (*found.given, *found.expected, *found.written) if p.text is not None]
    assert not set("".join(texts)) & set("abcdef")
    assert sum(p.tokens for p in found.written) == 8
    assert json.dumps(asdict(found))
