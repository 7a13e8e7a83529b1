"""How much of a text a model gives back: by hand, by definition, and against rouge_score."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from memsinks.audit.metrics import exact_memorisation, extraction_strength, probability, rouge_l_recall
from memsinks.errors import InputError

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def test_exact_memorisation_by_hand():
    assert exact_memorisation([1, 2, 3, 4], [1, 9, 3, 9]) == 0.5
    assert exact_memorisation([1, 2], [3, 4]) == 0
    assert exact_memorisation([1, 2], [1, 2]) == 1


def test_extraction_strength_by_hand():
    assert extraction_strength([1, 2, 3, 4], [1, 9, 3, 4]) == 0.5, "given two tokens, the other two follow"
    assert extraction_strength([1, 2, 3, 4], [1, 2, 3, 9]) == 0, "the last is wrong, whatever is given"
    assert extraction_strength([1, 2], [1, 2]) == 1


@settings(deadline=None)
@given(st.data(), TOKENS)
def test_extraction_strength_is_its_definition(data, expected):
    predicted = data.draw(st.lists(st.integers(0, 3), min_size=len(expected), max_size=len(expected)))
    n = len(expected)
    shortest = min(k for k in range(n + 1) if predicted[k:] == expected[k:])
    assert extraction_strength(expected, predicted) == pytest.approx(1 - shortest / n)
    assert extraction_strength(expected, predicted) <= exact_memorisation(expected, predicted) + 1e-12


def test_probability_is_a_geometric_mean():
    assert probability([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert probability([0.0]) == 1


def test_rouge_by_hand():
    assert rouge_l_recall([1, 2, 3, 4], [9, 1, 9, 3, 4]) == 0.75
    assert rouge_l_recall([1, 2], [3, 3, 3]) == 0
    assert rouge_l_recall([1, 2], []) == 0
    assert rouge_l_recall([1, 1, 2], [1, 2]) == pytest.approx(2 / 3)


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_rouge_is_that_of_rouge_score(expected, written):
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    words = [" ".join("abcd"[t] for t in tokens) for tokens in (expected, written)]
    assert rouge_l_recall(expected, written) == pytest.approx(scorer.score(*words)["rougeL"].recall)


@pytest.mark.parametrize("measure", [exact_memorisation, extraction_strength])
def test_tokens_that_do_not_fit_are_refused(measure):
    for expected, predicted in (([], []), ([1], [1, 2]), (np.ones((1, 2)), np.ones((1, 2)))):
        with pytest.raises(InputError, match="two rows of equal length"):
            measure(expected, predicted)


def test_nothing_to_expect_is_refused():
    with pytest.raises(InputError, match="at least one token"):
        rouge_l_recall([], [1])
    with pytest.raises(InputError, match="at least one number"):
        probability([])
    with pytest.raises(InputError, match="not finite"):
        probability([-math.inf])
