import numpy as np
import pytest

from memsinks.audit import DocumentLosses, damage, forgetting, gap_closure, removable_memory, validation_cost
from memsinks.errors import InputError


def test_by_hand():
    assert gap_closure(4.0, 3.0, 3.5, 0.5) == pytest.approx(1 - 1 / 3)
    assert forgetting(3.0, 3.75) == 0.8
    assert removable_memory(3.0, 0.5, 3.5, 0.5) == pytest.approx(2.5 / 3)
    assert validation_cost(3.6, 3.0) == pytest.approx(0.2)


def test_ends_of_the_scales():
    assert gap_closure(3.5, 0.5, 3.5, 0.5) == 0  # nothing changed
    assert gap_closure(4.0, 4.0, 3.5, 0.5) == 1  # both texts equally hard
    assert forgetting(3.8, 3.8) == 1
    assert validation_cost(3.8, 3.8) == 0
    assert removable_memory(3.8, 0.4, 3.8, 0.4) == 1
    assert removable_memory(3.8, 3.8, 3.8, 0.4) == 0


def test_arrays():
    closed = gap_closure(np.array([4.0, 4.0]), np.array([3.0, 4.0]), np.array([3.5, 3.5]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(closed, [2 / 3, 1])


def test_a_zero_denominator_is_an_error():
    with pytest.raises(ValueError, match="V_std - R_std is zero"):
        gap_closure(4.0, 3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="R_unseen is zero"):
        forgetting(3.0, 0.0)
    with pytest.raises(ValueError, match="R_unseen - R_std is zero"):
        removable_memory(np.array([3.0, 3.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([1.0, 2.0]))


def test_damage():
    without = DocumentLosses(("a", "b"), np.array([6.0, 2.0]), np.array([3, 1]))
    with_sinks = DocumentLosses(("a", "b"), np.array([9.0, 3.0]), np.array([3, 1]))
    assert damage(with_sinks, without) == 1.0
    assert damage(without, with_sinks) == -1.0


@pytest.mark.parametrize(("names", "tokens"), [(("a", "c"), [3, 1]), (("a", "b"), [3, 2])])
def test_damage_needs_the_same_documents(names, tokens):
    one = DocumentLosses(("a", "b"), np.ones(2), np.array([3, 1]))
    other = DocumentLosses(names, np.ones(2), np.array(tokens))
    with pytest.raises(InputError, match="same documents"):
        damage(one, other)
