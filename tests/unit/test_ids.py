"""Sequence IDs: frozen values, domains, ranges and the way into tensors and back."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsinks import ids
from memsinks.errors import SequenceIdError

EDGES = (0, 1, 2**63 - 1, 2**63, 2**64 - 1)
uint64 = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1))


def test_golden_values():
    """Computed apart from memsinks: the first 8 bytes, little-endian, of SHA-256 of "memsinks/1/<kind>\\0<message>"."""
    assert ids.content_id([1, 2, 3, 2**32 - 1]) == 0xD2EC3A3FC47245DF
    assert ids.content_id([]) == 0x0259A0ABEC3B41DC
    assert ids.source_id("Wörter.org") == 0xD17E0FD5E6AB5528
    assert ids.column_id("owner-7") == 0x60F99F177AFE813C
    assert ids.PLACEBO_ID == 0x13BE5A29D7C595C


def test_golden_values_with_a_key():
    assert ids.content_id([1, 2, 3, 2**32 - 1], key=b"secret") == 0xFD6F11730AC5F34F
    assert ids.source_id("Wörter.org", key=b"secret") == 0x5DC83D508CC1552A
    assert ids.column_id("owner-7", key=b"secret") == 0xF4CEFAF4C49F0845


def test_content_does_not_depend_on_the_container():
    values = [5, 0, 70000]
    expected = ids.content_id(values)
    for same in (tuple(values), np.array(values, dtype=np.int64), np.array(values, dtype=np.uint32)):
        assert ids.content_id(same) == expected
    big_endian = np.array(values, dtype=">u4")
    assert ids.content_id(big_endian) == expected
    assert ids.content_id(values[::-1]) != expected
    assert ids.content_id([*values, 0]) != expected


def test_kinds_and_keys_are_separate_domains():
    message = "abcd"
    tokens = np.frombuffer(message.encode(), dtype="<u4")
    values = [
        make(value, key=key)
        for make, value in ((ids.content_id, tokens), (ids.source_id, message), (ids.column_id, message))
        for key in (None, b"", b"a", b"b")
    ]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True, None, "1", np.float32(2), np.True_])
def test_check_id_refuses(value):
    with pytest.raises(SequenceIdError, match=r"\[0, 2\*\*64\)"):
        ids.check_id(value)


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True, None])
def test_columns_take_integers_in_range_and_strings(value):
    assert ids.column_id(2**64 - 1, key=b"ignored") == 2**64 - 1
    assert ids.column_id(np.uint64(2**63)) == 2**63
    with pytest.raises(SequenceIdError):
        ids.column_id(value)


@pytest.mark.parametrize(
    "tokens",
    [[-1], [2**32], np.array([-1]), np.array([2**32]), np.array([1.5]), [1.5]],
    ids=["list -1", "list 2^32", "array -1", "array 2^32", "float array", "float list"],
)
def test_tokens_outside_32_bits_are_refused_not_wrapped(tokens):
    with pytest.raises((SequenceIdError, OverflowError, TypeError)):
        ids.content_id(tokens)


@given(st.lists(uint64, min_size=1, max_size=20))
def test_tensors_hold_the_same_64_bits(values):
    tensor = ids.to_tensor(values)
    assert tensor.dtype == torch.int64
    assert [v % 2**64 for v in tensor.tolist()] == values
    back = ids.from_tensor(tensor)
    assert back.dtype == np.uint64
    assert back.tolist() == values
    assert torch.equal(ids.to_tensor(np.array(values, dtype=np.uint64)), tensor)


def test_tensors_keep_shape_and_do_not_share_memory():
    array = np.array([[0, 2**63], [2**64 - 1, 5]], dtype=np.uint64)
    tensor = ids.to_tensor(array)
    tensor[1, 1] = 9
    assert array[1, 1] == 5
    assert ids.from_tensor(tensor.T).tolist() == [[0, 2**64 - 1], [2**63, 9]]
    assert ids.to_tensor([]).shape == (0,)


@pytest.mark.parametrize("value", [-1, 2**64, 1.5])
def test_to_tensor_refuses_what_is_not_an_id(value):
    with pytest.raises(SequenceIdError):
        ids.to_tensor([1, value])


@given(uint64)
def test_text_round_trip(value):
    text = ids.format_id(value)
    assert len(text) == 16
    assert int(text, 16) == value == ids.parse_id(text)


@pytest.mark.parametrize("text", ["", "0" * 15, "0" * 17, "0" * 15 + "G", "0" * 15 + "A", "0x" + "0" * 14, " " * 16])
def test_parse_refuses(text):
    with pytest.raises(SequenceIdError, match="16 hexadecimal"):
        ids.parse_id(text)


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_collision_probability_of_few_texts_is_exact_to_rounding(count):
    all_differ = Fraction(1)
    for i in range(count):
        all_differ *= Fraction(2**64 - i, 2**64)
    assert ids.collision_probability(count) == pytest.approx(float(1 - all_differ), rel=1e-12)


def test_collision_probability_of_many_texts():
    assert ids.collision_probability(0) == ids.collision_probability(1) == 0
    assert ids.collision_probability(10**6) == pytest.approx(2.71e-8, rel=1e-2)
    assert ids.collision_probability(10**9) == pytest.approx(0.02674, rel=1e-3)
    # The birthday paradox: half at 1.1774 times the square root of the number of values.
    assert ids.collision_probability(round(math.sqrt(2 * math.log(2)) * 2**32)) == pytest.approx(0.5, abs=1e-6)
