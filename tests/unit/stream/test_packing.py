import numpy as np
import pytest

from memsinks.errors import InputError
from memsinks.stream import chunk, order, pack


def test_chunks_by_hand():
    document, start, stop = chunk(np.array([2, 4, 5, 9, 8]), 4)
    chunks = list(zip(document.tolist(), start.tolist(), stop.tolist(), strict=True))
    # 5 and 9 tokens would leave one at the end: the last chunk takes one from the one before.
    assert chunks == [(0, 0, 2), (1, 0, 4), (2, 0, 3), (2, 3, 5), (3, 0, 4), (3, 4, 7), (3, 7, 9), (4, 0, 4), (4, 4, 8)]
    assert [len(column) for column in chunk(np.array([], dtype=int), 4)] == [0, 0, 0]


def test_bad_chunks():
    with pytest.raises(InputError, match="max_length is 2; it must be at least 3"):
        chunk(np.array([5]), 2)
    with pytest.raises(InputError, match="document 1 has 1 token"):
        chunk(np.array([5, 1]), 4)


def test_first_fit_by_hand():
    lengths = np.array([6, 5, 4, 3, 2, 7, 1])
    assert pack(lengths, 10, 100).tolist() == [0, 1, 0, 1, 1, 2, 2]
    assert pack(lengths, 10, 3).tolist() == [0, 1, 0, 2, 2, 3, 4]
    assert pack(lengths, 10, 1).tolist() == list(range(7))
    assert pack(np.array([], dtype=int), 10, 5).tolist() == []


def test_bad_packs():
    for lengths, window, message in (([11], 1, "do not fit bins of 10"), ([0, 4], 1, "do not fit"), ([4], 0, "window")):
        with pytest.raises(InputError, match=message):
            pack(np.array(lengths), 10, window)


def test_the_order_never_changes():
    # Frozen values: a change here breaks the resumption of every run that was started before it.
    assert order(8, 0).tolist() == FROZEN[0]
    assert order(8, 1).tolist() == FROZEN[1]
    assert order(8, 2**64 + 1).tolist() == FROZEN[1]
    assert order(8, -1).tolist() == order(8, 2**64 - 1).tolist() != FROZEN[0]
    assert order(0, 3).tolist() == []


def test_orders_are_uniform_and_neighbouring_seeds_unrelated():
    places = np.array([order(6, seed) for seed in range(3000)])
    for position in range(6):
        counts = np.bincount(places[:, position], minlength=6)
        assert (np.abs(counts - 500) < 100).all()  # 5 standard deviations
    same = (places[1:] == places[:-1]).mean()
    assert abs(same - 1 / 6) < 0.02


FROZEN = {0: [5, 7, 2, 0, 3, 1, 6, 4], 1: [2, 4, 7, 0, 6, 5, 3, 1]}
