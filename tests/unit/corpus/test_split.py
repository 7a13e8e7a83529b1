import numpy as np
import pytest

from memsinks.corpus.split import components, hold_out, text_hash
from memsinks.errors import InputError


def test_text_hash_ignores_case_blanks_and_unicode_form():
    same = ["Caf\u00e9 de Paris", "  caf\u00e9\n\nDE   paris ", "cafe\u0301 de\u00a0Paris"]
    assert len({text_hash(text) for text in same}) == 1
    assert text_hash("Caf\u00e9 de Paris") != text_hash("Caf\u00e9deParis")


def test_components_join_through_either_column():
    texts = ["a", "b", "a", "c", "d", "e"]
    groups = [1, 2, 3, 3, 4, 2]
    assert components([texts]).tolist() == [0, 1, 0, 3, 4, 5]
    assert components([texts, groups]).tolist() == [0, 1, 0, 0, 4, 1]


def test_whole_components_up_to_the_fraction():
    hashes = [text_hash(str(i // 2)) for i in range(100)]
    for seed in range(5):
        held_out = hold_out(components([hashes]), hashes, fraction=0.15, seed=seed)
        assert held_out.sum() == 14  # 15 wanted, in pairs
        assert (held_out[::2] == held_out[1::2]).all()


def test_the_choice_depends_on_the_seed_and_not_on_the_order():
    hashes = [text_hash(str(i)) for i in range(200)]
    shuffled = np.random.default_rng(0).permutation(200)
    first = hold_out(np.arange(200), hashes, fraction=0.1, seed=0)
    again = hold_out(np.arange(200), [hashes[i] for i in shuffled], fraction=0.1, seed=0)
    other = hold_out(np.arange(200), hashes, fraction=0.1, seed=1)
    assert (again == first[shuffled]).all()
    assert first.sum() == other.sum() == 20
    assert (first & other).sum() < 10


def test_small_corpora():
    hashes = [text_hash(str(i)) for i in range(3)]
    assert hold_out(np.arange(3), hashes, fraction=0, seed=0).sum() == 0
    assert hold_out(np.arange(3), hashes, fraction=0.01, seed=0).sum() == 1
    assert hold_out(np.arange(3), hashes, fraction=0.99, seed=0).sum() == 2  # something is left to train on
    with pytest.raises(InputError, match=r"of 6 documents is 1, but the smallest group .* has 3; .*to 0.5 or more"):
        hold_out(np.array([0, 0, 0, 3, 3, 3]), hashes * 2, fraction=0.1, seed=0)
    with pytest.raises(InputError, match=r"all 1 document.* belong together"):
        hold_out(np.zeros(1, dtype=np.int64), hashes[:1], fraction=0.1, seed=0)
