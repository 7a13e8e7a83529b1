import sys
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit.matching import bleu, edit_similarity, longest_common_subsequence, longest_run
from memsinks.errors import InputError, MemsinksError

TOKENS = st.lists(st.integers(0, 4), max_size=25)


@pytest.mark.parametrize(
    ("written", "document", "run", "common", "similarity"),
    [
        ([1, 2, 3], [1, 2, 3], 3, 3, 1.0),
        ([1, 2, 3], [4, 5, 6], 0, 0, 0.0),
        ([9, 1, 2, 9, 3], [1, 2, 3], 2, 3, 1 - 2 / 5),
        ([1, 2, 3, 4], [0, 9, 2, 3, 9], 2, 2, 1 - 3 / 5),
        ([], [1], 0, 0, 0.0),
    ],
)
def test_by_hand(written, document, run, common, similarity):
    assert longest_run(written, document) == run
    assert longest_common_subsequence(written, document) == common
    assert edit_similarity(written, document) == pytest.approx(similarity)


@given(TOKENS, TOKENS)
def test_the_longest_run_is_that_of_difflib(written, document):
    match = SequenceMatcher(None, written, document, autojunk=False).find_longest_match()
    assert longest_run(written, document) == match.size


@given(TOKENS, TOKENS)
def test_subsequence_and_edits_are_those_of_the_table(written, document):
    rows, columns = len(written), len(document)
    common = [[0] * (columns + 1) for _ in range(rows + 1)]
    edits = [[max(i, j) if 0 in (i, j) else 0 for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            same = written[i - 1] == document[j - 1]
            common[i][j] = common[i - 1][j - 1] + 1 if same else max(common[i - 1][j], common[i][j - 1])
            edits[i][j] = min(edits[i - 1][j - 1] + (not same), edits[i - 1][j] + 1, edits[i][j - 1] + 1)
    assert longest_common_subsequence(written, document) == common[rows][columns]
    if written or document:
        assert edit_similarity(written, document) == pytest.approx(1 - edits[rows][columns] / max(rows, columns))


def test_bleu_is_that_of_nltk():
    nltk = pytest.importorskip("nltk.translate.bleu_score")
    written, expected = "the cat sat on the mat and looked at me", "the cat sat on a mat and looked at you"
    unsmoothed = nltk.SmoothingFunction().method0
    peer = nltk.sentence_bleu([expected.split()], written.split(), smoothing_function=unsmoothed)
    assert bleu(written, expected) == pytest.approx(peer)


def test_bleu_of_nothing_alike_is_0_and_of_the_same_1():
    assert bleu("alpha beta gamma delta", "one two three four") == 0
    assert bleu("", "one two") == 0
    assert bleu("one two", "one two") == pytest.approx(1)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(InputError, match="at least one token"):
        edit_similarity([], [])
    with pytest.raises(InputError, match="without words"):
        bleu("word", " ")


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("rapidfuzz.distance", lambda: edit_similarity([1], [1])),
        ("rapidfuzz.distance", lambda: longest_common_subsequence([1], [1])),
        ("sacrebleu.metrics", lambda: bleu("a", "a")),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MemsinksError, match=r"memsinks\[audit\]"):
        call()
