"""Trusted keys: when their signatures count, and the file that holds them."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.certificate import (
    SigningKey,
    TrustedKey,
    read_trust_file,
    read_trusted_keys,
    retire,
    revoke,
    trust,
    write_key_pair,
    write_trust_file,
)
from memsinks.errors import InputError
from tests.unit.certificate.conftest import TIME, trusted

SECOND = timedelta(seconds=1)
KEYS = [SigningKey.generate() for _ in range(2)]
times = st.none() | st.integers(-3, 3).map(lambda seconds: TIME + seconds * SECOND)


@given(times, times, times, st.integers(-4, 4))
def test_a_signature_counts_in_its_time(before, after, revoked, seconds):
    if before is not None and after is not None and after < before:
        with pytest.raises(InputError, match="retired before it is valid"):
            trusted(KEYS[0], not_before=before, not_after=after)
        return
    key = trusted(KEYS[0], not_before=before, not_after=after, revoked_at=revoked)
    time = TIME + seconds * SECOND
    counts = (
        (before is None or before <= time) and (after is None or time <= after) and (revoked is None or time < revoked)
    )
    assert (key.objection(time) is None) == counts


def test_the_objection_says_which_limit():
    limits = {
        "revoked at 2026-03-01T12:00:00Z": trusted(KEYS[0], revoked_at=TIME),
        "valid only from 2026-03-01T12:00:01Z": trusted(KEYS[0], not_before=TIME + SECOND),
        "retired at 2026-03-01T11:59:59Z": trusted(KEYS[0], not_after=TIME - SECOND),
    }
    for words, key in limits.items():
        assert words in key.objection(TIME)


def test_keys_are_added_retired_and_revoked():
    first, second = (trusted(key) for key in KEYS)
    keys = trust(trust((), first), second)
    with pytest.raises(InputError, match="there already"):
        trust(keys, trusted(KEYS[1]))
    keys = retire(keys, KEYS[0].public.id[:8], TIME)
    assert keys == (trusted(KEYS[0], not_after=TIME), second)
    keys = revoke(keys, KEYS[1].public.id, TIME)
    assert keys == (trusted(KEYS[0], not_after=TIME), trusted(KEYS[1], revoked_at=TIME))
    # Never later than it was, but earlier when more is known.
    with pytest.raises(InputError, match="retired already, since 2026-03-01T12:00:00Z"):
        retire(keys, KEYS[0].public.id, TIME + SECOND)
    with pytest.raises(InputError, match="revoked already, since 2026-03-01T12:00:00Z"):
        revoke(keys, KEYS[1].public.id, TIME + SECOND)
    assert revoke(keys, KEYS[1].public.id, TIME - SECOND)[1].revoked_at == TIME - SECOND


@pytest.mark.parametrize(
    "digits",
    ["", KEYS[0].public.id[:7], "z" * 64, KEYS[0].public.id + "0"],
    ids=["none", "beginning", "no digits", "unknown"],
)
def test_keys_that_are_not_there(digits):
    with pytest.raises(InputError, match="no key has an ID that begins with"):
        revoke((trusted(KEYS[0]),), digits, TIME)


@given(times, times, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_files_are_read_back(tmp_path_factory, before, revoked, name):
    file = tmp_path_factory.mktemp("trust") / "trusted-keys.json"
    keys = (trusted(KEYS[0], not_before=before, revoked_at=revoked), TrustedKey(public=KEYS[1].public, name=name))
    write_trust_file(file, keys)
    assert read_trust_file(file) == read_trusted_keys(file) == keys


def test_a_public_key_is_a_file_of_one_key(tmp_path, key):
    _, public = write_key_pair(key, tmp_path, "desk")
    assert read_trusted_keys(public) == (trusted(key),)
    with pytest.raises(InputError, match="not JSON"):
        read_trust_file(public)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "x"}, "not a file of trusted keys"),
        ({"format_version": 2}, "format version 2.*newer memsinks"),
        ({"keys": {}}, "not a file of trusted keys"),
        ({"keys": ["x"]}, "needs the fields"),
        ({"public_key": "AAAA"}, "32 bytes, not 3"),
        ({"public_key": "A"}, "not base64"),
        ({"id": KEYS[1].public.id}, "one of them was altered"),
        ({"name": ""}, "needs a name"),
        ({"name": None}, "strings"),
        ({"revoked_at": 0}, "strings"),
        ({"revoked_at": "soon"}, "is not a time"),
        ({"not_before": "2026-03-02T00:00:00Z", "not_after": "2026-03-01T00:00:00Z"}, "retired before it is valid"),
        # What a later version may add could limit a key.
        ({"only_for": "r-17"}, "and no others"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, words):
    file = tmp_path / "trusted-keys.json"
    write_trust_file(file, (trusted(KEYS[0]),))
    content = json.loads(file.read_text())
    (content if {"format", "format_version", "keys"} & set(change) else content["keys"][0]).update(change)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words) as caught:
        read_trust_file(file)
    assert str(file) in str(caught.value)


def test_a_key_is_not_there_twice(tmp_path):
    file = tmp_path / "trusted-keys.json"
    write_trust_file(file, (trusted(KEYS[0]), trusted(KEYS[0], revoked_at=TIME)))
    with pytest.raises(InputError, match="there already"):
        read_trust_file(file)
