"""Findings keep what they hold on their way through a file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit.findings import Curve, DocumentValue, Example, Figure, Findings, Passage
from memsinks.audit.statistics import wilson

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=8)
PASSAGES = st.lists(
    st.builds(
        Passage, tokens=st.integers(1, 9), matching=st.booleans(), text=st.none() | NAMES, sha256=st.none() | NAMES
    ),
    max_size=3,
).map(tuple)
PLACES = {"section": NAMES, "measure": NAMES, "condition": NAMES}
FINDINGS = st.builds(
    Findings,
    figures=st.lists(
        st.builds(Figure, **PLACES, texts=NAMES, value=st.none() | NUMBERS, low=st.none() | NUMBERS, unit=NAMES),
        max_size=3,
    ).map(tuple),
    curves=st.lists(
        st.builds(
            Curve, **PLACES, texts=NAMES, x_label=NAMES, y_label=NAMES, x=st.tuples(NUMBERS), y=st.tuples(NUMBERS)
        ),
        max_size=3,
    ).map(tuple),
    documents=st.lists(
        st.builds(DocumentValue, **PLACES, texts=NAMES, document=NAMES, value=NUMBERS), max_size=3
    ).map(tuple),
    examples=st.lists(
        st.builds(Example, **PLACES, document=NAMES, given=PASSAGES, expected=PASSAGES, written=PASSAGES), max_size=2
    ).map(tuple),
)  # fmt: skip


@given(FINDINGS)
def test_what_is_written_is_read_again(findings):
    assert Findings.from_json(json.loads(json.dumps(findings.to_json()))) == findings


@given(st.lists(FINDINGS, max_size=3))
def test_several_are_joined_in_their_order(parts):
    joined = Findings.joined(parts)
    assert joined.figures == tuple(f for part in parts for f in part.figures)
    assert joined.examples == tuple(e for part in parts for e in part.examples)


def test_a_figure_of_an_interval():
    figure = Figure.of(
        wilson(2, 4), section="s", measure="m", condition="own", texts="target", unit="rate", number=4
    )  # fmt: skip
    assert (figure.value, figure.number) == (0.5, 4)
    assert figure.low < 0.5 < figure.high


def figure(**other):
    return {"section": "s", "measure": "m", "condition": "c", "texts": "t", "value": 1.0, "unit": "rate"} | other


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"figures": "none", "curves": [], "documents": [], "examples": []},
        {"figures": [figure(value="much")], "curves": [], "documents": [], "examples": []},
        {"figures": [{"section": "s"}], "curves": [], "documents": [], "examples": []},
    ],
)
def test_what_is_no_finding_is_refused(content):
    with pytest.raises(ValueError):
        Findings.from_json(content)
