from types import SimpleNamespace

import numpy as np

from memsinks.auditing.audit import _text_hash


def hashed(content_ids, numbers):
    return _text_hash(SimpleNamespace(corpus=SimpleNamespace(content_ids=np.array(content_ids, np.uint64))), numbers)


def test_the_same_documents_have_the_same_hash_in_any_order_and_place():
    assert hashed([5, 7, 9], np.array([0, 2])) == hashed([9, 1, 5, 3], np.array([0, 2]))


def test_other_documents_and_other_numbers_of_them_have_another():
    assert len({hashed([5, 7, 9, 5], np.array(n)) for n in ([0, 1], [0, 2], [0], [0, 3], [1, 2])}) == 5
