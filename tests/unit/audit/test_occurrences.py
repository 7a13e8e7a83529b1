"""Runs of tokens in a corpus."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit import occurrences
from memsinks.audit.occurrences import occurring

tokens = st.lists(st.integers(0, 4), max_size=12)


def holds(document, run):
    return any(document[i : i + len(run)] == run for i in range(len(document) - len(run) + 1))


@given(st.lists(tokens, max_size=5), st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), max_size=6))
def test_the_same_as_looking_at_every_place(documents, runs):
    found = occurring([np.array(d, dtype=np.int64) for d in documents], [np.array(run) for run in runs])
    assert found.tolist() == [any(holds(d, run) for d in documents) for run in runs]


def test_a_corpus_is_searched_in_blocks(monkeypatch):
    monkeypatch.setattr(occurrences, "BLOCK", 4)
    documents = [np.array([1, 2]), np.array([3]), np.array([4, 5, 6, 7]), np.array([8])]
    runs = [np.array(run) for run in ([5, 6, 7], [2, 3], [8], [9])]
    assert occurring(documents, runs).tolist() == [True, False, True, False]
