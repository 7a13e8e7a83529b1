"""What a certificate says: refused when it contradicts itself, the same bytes for the same content."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.certificate import DOES_NOT_CLAIM, LedgerAnchor, Predicate, Reason, Request, Statement, VerificationCheck
from memsinks.certificate.encoding import canonical, format_time, parse_time
from memsinks.errors import InputError, SequenceIdError
from tests.unit.certificate.conftest import REASON, TIME, predicate

AFTER = {"model.safetensors": "1" * 64}
FAILED = VerificationCheck(name="extraction", verdict="fail", figure=0.2, threshold=0.0)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
digests_ = st.text("0123456789abcdef", min_size=64, max_size=64)
floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
checks = st.builds(
    VerificationCheck,
    name=names,
    verdict=st.sampled_from(["pass", "inconclusive"]),
    figure=st.none() | floats,
    threshold=st.none() | floats,
    interval=st.none() | st.tuples(floats, floats),
)
predicates = st.builds(
    predicate,
    st.dictionaries(names, digests_, min_size=1, max_size=3),
    removal=names,
    time=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC)),
    request=st.builds(
        Request,
        kinds=st.dictionaries(names, counts, max_size=3),
        ids=st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple),
        target=names,
    ),
    policies=st.dictionaries(names, st.text(max_size=5), max_size=3),
    before=st.dictionaries(names, digests_, min_size=1, max_size=3),
    rows_removed=st.dictionaries(counts, counts, max_size=4),
    verification=st.lists(checks, max_size=3).map(tuple),
    evidence=st.dictionaries(names, digests_, max_size=2),
    ledger=st.none() | st.builds(LedgerAnchor, seq=st.integers(1, 2**40), hash=digests_),
    corpus_sha256=st.none() | digests_,
    code_version=names,
    reasons=st.just((REASON,)),
)


@given(predicates)
def test_it_is_read_back_from_its_bytes(made):
    data = canonical(made.as_dict())
    again = Predicate.from_dict(json.loads(data), unknown="refuse")
    assert again == made
    assert canonical(again.as_dict()) == data


@given(predicates, st.randoms())
def test_the_same_content_gives_the_same_bytes(made, random):
    def shuffled(mapping):
        return dict(random.sample(list(mapping.items()), len(mapping)))

    same = replace(
        made,
        time=made.time.astimezone(timezone(timedelta(hours=5))),
        policies=shuffled(made.policies),
        before=shuffled(made.before),
        rows_removed=shuffled(made.rows_removed),
        request=replace(made.request, ids=made.request.ids[::-1] * 2),
    )
    assert same == made
    subject = shuffled(made.after) | made.evidence | made.after
    try:
        statements = [Statement(subject, same), Statement(dict(sorted(subject.items())), made)]
    except InputError:
        return  # an evidence file and one of the checkpoint with one name
    assert statements[0].payload() == statements[1].payload()


def test_equal_numbers_are_written_alike():
    checks = [
        VerificationCheck(name="a", verdict="pass", figure=zero, threshold=zero, interval=(zero, one))
        for one, zero in ((1, 0), (1.0, -0.0), (True, False))
    ]
    assert len({canonical(predicate(AFTER, verification=(check,)).as_dict()) for check in checks}) == 1


def test_what_is_written():
    written = predicate(AFTER).as_dict()
    assert written["format_version"] == 1
    assert written["time"] == "2026-03-01T12:00:00Z"
    assert written["request"]["ids"] == ["0000000000000005", "ffffffffffffffff"]
    assert written["rows_removed"] == {"0": 12, "10": 4, "2": 7}
    assert written["does_not_claim"] == list(DOES_NOT_CLAIM)
    assert written["verification"][0]["interval"] == [0.95, 1.02]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"complete": True}, r"complete: there are reasons why not \(shared_rows_kept\)"),
        ({"complete": True, "reasons": (), "verification": (FAILED,)}, "complete: extraction failed"),
        ({"reasons": ()}, "no reason says why"),
        ({"time": datetime(2026, 3, 1)}, "has no zone"),
    ],
)
def test_contradictions_are_refused_when_it_is_made(changed, words):
    with pytest.raises(InputError, match=words):
        predicate(AFTER, **changed)


def test_complete_needs_no_reason():
    made = predicate(AFTER, complete=True, reasons=())
    assert made.as_dict()["complete"] is True
    with pytest.raises(InputError, match="reasons why not"):
        Predicate.from_dict(made.as_dict() | {"reasons": predicate(AFTER).as_dict()["reasons"]})


@pytest.mark.parametrize("value", [-1, 2**64, "5", True])
def test_ids_are_unsigned_64_bit_integers(value):
    with pytest.raises(SequenceIdError):
        Request(kinds={}, ids=(value,), target="x")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"removal": ""}, "removal"),
        ({"removal": 5}, "removal"),
        ({"removal": "\ud800"}, "hex escape"),
        ({"after": {}}, "after"),
        ({"before": {"a": "A" * 64}}, "before.a"),
        ({"before": {"a": "a" * 64 + "\n"}}, "before.a"),
        ({"rows_removed": {0: -1}}, "rows_removed.0"),
        ({"rows_removed": {0: "1"}}, "rows_removed.0"),
        ({"rows_removed": {-1: 1}}, "rows_removed"),
        ({"corpus_sha256": "c" * 63}, "corpus_sha256"),
        ({"policies": {"a": None}}, "policies.a"),
        ({"complete": 0}, "complete"),
        ({"ledger": LedgerAnchor(seq=0, hash="b" * 64)}, "ledger.seq"),
        ({"verification": (VerificationCheck(name="a", verdict="maybe"),)}, "verification.0.verdict"),
        (
            {"verification": (VerificationCheck(name="a", verdict="pass", figure=float("nan")),)},
            "verification.0.figure",
        ),
        (
            {"verification": (VerificationCheck(name="a", verdict="pass", interval=(1, 2, 3)),)},
            "verification.0.interval",
        ),
        ({"reasons": (Reason(kind="tired", count=1, detail="x"),)}, "reasons.0.kind"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(changed, words):
    with pytest.raises(InputError, match=words):
        predicate(**{"after": AFTER} | changed).as_dict()


@pytest.mark.parametrize("place", [(), ("request",), ("ledger",), ("verification", 0), ("reasons", 0)])
def test_unknown_fields_are_passed_over_in_reading_and_refused_in_writing(place):
    content = json.loads(canonical(predicate(AFTER).as_dict()))
    inner = content
    for step in place:
        inner = inner[step]
    inner["later"] = 1
    assert Predicate.from_dict(content) == predicate(AFTER)
    with pytest.raises(InputError, match="later"):
        Predicate.from_dict(content, unknown="refuse")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "not a certificate of removal"),
        ({"format_version": 2}, "version 2, and this memsinks reads up to 1; use a newer memsinks"),
        ({"format_version": True}, "not a certificate"),
        ({"format_version": "1"}, "not a certificate"),
        ({"time": "2026-03-01"}, "time"),
        ({"request": {"kinds": {}, "ids": [5], "target": "x"}}, "request.ids.0"),
        ({"request": {"kinds": {}, "ids": ["5"], "target": "x"}}, "request.ids.0"),
        ({"complete": None}, "complete"),
    ],
)
def test_what_cannot_be_read(change, words):
    with pytest.raises(InputError, match=words):
        Predicate.from_dict(predicate(AFTER).as_dict() | change)


@pytest.mark.parametrize("text", ["", "2026-3-1T12:00:00Z", "2026-03-01T12:00:00", "2026-02-30T12:00:00Z", "now"])
def test_times_have_one_form(text):
    with pytest.raises(InputError, match="is not a time"):
        parse_time(text)
    assert parse_time(format_time(TIME)) == TIME
