"""From names to a mode or a refusal."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.errors import ConfigError
from memsinks.ids import format_id
from memsinks.serving.guard import Guard, Refusal, Wanted
from memsinks.serving.names import Names
from memsinks.sinks.modes import OFF, Mode

ROWS = [("a-0", "a", 1), ("a-1", "a", 2), ("b-0", "b", 2), ("b-1", "b", 3), ("c-0", None, 4)]
TABLE = pa.table(dict(zip(("document", "source", "sequence_id"), map(list, zip(*ROWS, strict=True)), strict=True)))
TRAINED = {1, 2, 3, 4, 5}


def guard(excluded=frozenset(), **options):
    return Guard(TRAINED, excluded=lambda: excluded, names=Names(TABLE, ()), **options)


def test_nothing_asked_for_is_off_whatever_is_excluded():
    assert guard(None).mode(None) == OFF
    assert guard(None).permits(OFF)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(sources=("a",)), (1, 2)),
        (Wanted(documents=("b-1", "c-0")), (3, 4)),
        (Wanted(ids=(format_id(5),)), (5,)),
        (Wanted(sources=("a",), documents=("b-0",), ids=(format_id(4),)), (1, 2, 4)),
    ],
)
def test_names_give_their_ids(wanted, ids):
    assert guard().mode(wanted) == Mode("chosen", ids)


@pytest.mark.parametrize(
    ("wanted", "excluded", "reason", "word"),
    [
        (Wanted(sources=("d",)), {1}, "unknown", "'d'"),
        (Wanted(documents=("a",)), {1}, "unknown", "'a'"),
        (Wanted(ids=(format_id(9),)), {1}, "unknown", format_id(9)),
        (Wanted(sources=("a",)), {1, 2}, "refused", "'a'"),
        (Wanted(documents=("a-1",)), {2}, "refused", "'a-1'"),
        (Wanted(sources=("a", "b"), ids=(format_id(3),)), {3}, "refused", format_id(3)),
        (Wanted(ids=("9",)), set(), "malformed", "16 hexadecimal digits"),
        (Wanted(), set(), "malformed", "'off'"),
        (Wanted(sources=("a", "b")), set(), "too many", "at most 2"),
        (Wanted(sources=("a",)), None, "unavailable", "later"),
    ],
)
def test_refusals(wanted, excluded, reason, word):
    refusal = guard(excluded, max_ids=2).mode(wanted)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert word in refusal.message


def test_what_is_excluded_is_left_out_of_a_source_that_has_more():
    assert guard({2}).mode(Wanted(sources=("a",))) == Mode("chosen", (1,))


def test_a_removed_and_a_denied_name_are_refused_in_the_same_words():
    # Who asks learns nothing but that this name is not to be had.
    texts = {guard(excluded).mode(Wanted(documents=("a-0",))).message for excluded in ({1}, {1, 3}, {1, 2, 3, 4})}
    assert texts == {"the sinks of document 'a-0' may not be switched on"}


def test_a_mode_is_permitted_as_long_as_its_ids_are_not_excluded():
    excluded = set()
    own = guard(excluded)
    mode = own.mode(Wanted(sources=("b",)))
    assert own.permits(mode)
    excluded.add(3)
    assert not own.permits(mode)
    assert not guard(None).permits(mode)


SOME = st.sets(st.sampled_from(sorted(TRAINED)))


@given(
    st.sets(st.sampled_from("abx")),
    st.sets(st.sampled_from([row[0] for row in ROWS])),
    SOME,
    SOME,
)
def test_no_request_gets_an_excluded_id(sources, documents, ids, excluded):
    wanted = Wanted(sources=tuple(sources), documents=tuple(documents), ids=tuple(map(format_id, ids)))
    mode = guard(excluded).mode(wanted)
    named = {i for name, source, i in ROWS if name in documents or source in sources} | ids
    if isinstance(mode, Mode):
        assert set(mode.ids) == named - excluded
        assert guard(excluded).permits(mode)
    else:
        assert "x" in sources or not named or named & excluded


def test_no_ids_at_all_are_no_limit():
    with pytest.raises(ConfigError, match="max_ids is 0"):
        guard(max_ids=0)
