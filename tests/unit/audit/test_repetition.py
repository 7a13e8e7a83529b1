"""Repetition and richness, by hand."""

import numpy as np
import pytest

from memsinks.audit.repetition import distinct, repeated_share
from memsinks.errors import InputError


@pytest.mark.parametrize(
    ("tokens", "n", "share"),
    [([1, 2, 3], 1, 0), ([1, 1, 1, 1], 1, 0.75), ([1, 2, 1, 2, 1], 2, 0.5), ([1, 2], 3, 0), ([], 1, 0)],
)
def test_share_of_repeated_grams(tokens, n, share):
    assert repeated_share(np.array(tokens, dtype=np.int64), n) == share


def test_distinct_grams_over_several_texts():
    texts = [np.array([1, 2, 3]), np.array([1, 2]), np.array([], dtype=np.int64)]
    assert distinct(texts, 1) == 3 / 5
    assert distinct(texts, 2) == 2 / 3, "none reaches over two texts"
    with pytest.raises(InputError, match="no 4-grams"):
        distinct(texts, 4)
    with pytest.raises(InputError, match="at least 1"):
        distinct(texts, 0)
