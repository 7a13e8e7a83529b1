"""Whatever field of whatever entry is changed, to whatever value: the check of the chain finds it."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ledger_behaviour import ENTRIES, tamper

from memsinks.ledger import Ledger
from memsinks.ledger.chain import EMPTY, KINDS, check_chain, seal, stored
from memsinks.ledger.people import Person

FIELDS = ("seq", "time", "kind", "removal", "people", "body", "previous", "hash")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
contents = st.tuples(
    st.sampled_from(KINDS),
    texts,
    st.dictionaries(st.sampled_from(["requester", "approver", "operator"]), hashes, max_size=3),
    st.dictionaries(texts, values, max_size=3),
)
ledgers = st.lists(contents, min_size=1, max_size=6)


def build(chosen):
    """Stored fields of a chain of these contents, and its head."""
    last, chain = EMPTY, []
    for minute, (kind, removal, people, body) in enumerate(chosen):
        entry = seal(last, f"2026-01-31T12:{minute:02}:00Z", kind, removal, people, body)
        chain.append(stored(entry))
        last = entry.head
    return chain, last


def near(value):
    """Values that look like the one that is there."""
    if isinstance(value, int):
        return st.sampled_from([value - 1, value + 1, -value, float(value), str(value), value == 1])
    found = [value + " ", " " + value, value.upper(), value[:-1], value.replace("0", "1", 1), value.encode(), value * 2]
    # A removal's name may begin with a brace, too, and is no JSON.
    with suppress(json.JSONDecodeError):
        found += [json.dumps(json.loads(value), indent=1), value.replace("{", '{"a":1,', 1)]
    return st.sampled_from(found)


anything = st.none() | st.integers() | st.floats() | st.text() | st.binary() | hashes | st.sampled_from(KINDS)


def is_same(a, b):
    return type(a) is type(b) and a == b


@settings(deadline=None)
@given(chosen=ledgers)
def test_a_chain_that_nobody_touched_verifies(chosen):
    chain, head = build(chosen)
    assert check_chain(chain, head, [(fields["seq"], fields["hash"]) for fields in chain]) == []


@settings(max_examples=200, deadline=None)
@given(chosen=ledgers, data=st.data())
def test_a_change_of_any_stored_field_is_found(chosen, data):
    chain, head = build(chosen)
    index = data.draw(st.integers(0, len(chain) - 1))
    name = data.draw(st.sampled_from(FIELDS))
    value = data.draw(near(chain[index][name]) | anything)
    assume(not is_same(value, chain[index][name]))
    chain[index][name] = value
    assert check_chain(chain, head)


@settings(max_examples=100, deadline=None)
@given(chosen=ledgers, data=st.data())
def test_a_missing_doubled_or_moved_entry_is_found(chosen, data):
    chain, head = build(chosen)
    index = data.draw(st.integers(0, len(chain) - 1))
    taken = chain.pop(index)
    match data.draw(st.sampled_from(["missing", "doubled", "moved"])):
        case "doubled":
            chain[index:index] = [taken, taken]
        case "moved":
            target = data.draw(st.integers(0, len(chain)))
            assume(target != index)
            chain.insert(target, taken)
    assert check_chain(chain, head)


@settings(max_examples=50, deadline=None)
@given(chosen=ledgers, other=ledgers, data=st.data())
def test_another_chain_passes_no_anchor_of_the_first(chosen, other, data):
    chain, _ = build(chosen)
    anchor = data.draw(st.sampled_from([(fields["seq"], fields["hash"]) for fields in chain]))
    made_up, head = build(other)
    assume(anchor not in [(fields["seq"], fields["hash"]) for fields in made_up])
    assert check_chain(made_up, head) == []
    assert check_chain(made_up, head, [anchor])


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_change_of_any_field_in_the_database_is_found(data):
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "ledger.sqlite")
        ledger = Ledger.open(place)
        for number in range(3):
            ledger.append("planned", f"r{number}", {"number": number}, people={"operator": "Ada"})
        table = data.draw(st.sampled_from([ENTRIES, "memsinks_ledger_people"]))
        names = FIELDS if table == ENTRIES else [n for n in Person.__dataclass_fields__ if n != "keep_until"]
        name, row = data.draw(st.sampled_from(list(names))), data.draw(st.integers(1, 3))
        changes = ["7", "-1"] if name == "seq" else ["7", "'x'", "x'00ff'", f"{name} || ' '", f"substr({name}, 2)"]
        value = data.draw(st.sampled_from(changes))
        tamper(place, f"UPDATE {table} SET {name} = {value} WHERE rowid = {row}")
        assert ledger.verify()
