import json
import re
from itertools import pairwise

import pytest
from audits import rich_audit
from pages import LOADING, Page

from memsinks.errors import InputError
from memsinks.report.audit import compare, parse
from memsinks.report.audit.comparison_page import render_comparison, signed


@pytest.fixture
def before():
    return rich_audit()


@pytest.fixture
def after():
    return rich_audit(name="after")


def first(audit, **wanted):
    return next(f for f in audit["figures"] if all(f[k] == v for k, v in wanted.items()))


GREEDY = {"measure": "greedy, 50 tokens given", "condition": "own", "texts": "target"}


def test_an_audit_does_not_differ_from_itself(before):
    found = compare(parse(before), parse(before))
    assert len(found.pairs) == len(before["figures"])
    assert all(pair.difference in (0, None) and pair.intervals != "apart" for pair in found.pairs)
    assert not any(answer.changed for answer in found.answers)
    assert found.only_a == found.only_b == found.settings == ()


@pytest.mark.parametrize(
    ("interval", "says"),
    [((0.1, 0.2), "apart"), ((0.1, 0.97), "overlap"), ((1.0, 1.0), "overlap"), ((None, None), "no interval")],
)
def test_intervals_are_apart_only_if_they_share_no_point(before, after, interval, says):
    one, other = first(before, **GREEDY), first(after, **GREEDY)
    one["low"], one["high"] = 0.97, 1.0
    other["value"], other["low"], other["high"] = 0.15, *interval
    pair = next(p for p in compare(parse(before), parse(after)).pairs if (p.measure, p.condition) == (
        GREEDY["measure"], GREEDY["condition"]) and p.texts == "target")  # fmt: skip
    assert pair.intervals == says
    assert pair.difference == pytest.approx(-0.85)
    assert compare(parse(before), parse(after)).pairs[0].intervals in (says, "overlap")
    back = compare(parse(after), parse(before))
    assert next(p for p in back.pairs if p.intervals == says).intervals == says


def test_changed_answers_and_what_one_has_alone(before, after):
    after["verdicts"][0]["answer"] = "no"
    gone = after["figures"].pop()
    after["config"]["seed"] = 1
    after["unseen"]["sha256"] = "other"
    found = compare(parse(before), parse(after))
    assert [a.key for a in found.answers if a.changed] == ["held"]
    assert found.only_a == ((gone["section"], gone["measure"], gone["condition"], gone["texts"]),)
    assert found.only_b == ()
    assert found.settings == (("seed", "0", "1"),)
    assert not found.same_unseen


def test_a_question_that_one_audit_lacks_has_not_changed(before, after):
    del after["verdicts"][0]
    found = compare(parse(before), parse(after))
    assert (found.answers[0].a, found.answers[0].b) == ("yes", None)
    assert not any(answer.changed for answer in found.answers)
    assert "No answer changed." in Page(render_comparison(found)).text


def test_a_figure_that_is_there_twice_is_compared_twice(before, after):
    for audit in (before, after):
        audit["figures"].append({**first(audit, **GREEDY), "value": 0.25})
    found = [p for p in compare(parse(before), parse(after)).pairs if (p.measure, p.condition, p.texts) == tuple(
        GREEDY.values())]  # fmt: skip
    assert sorted(p.b for p in found) == [0.25, 1.0]


def test_what_is_no_number_has_no_place_in_the_order(before, after):
    first(after, **GREEDY)["value"] = float("nan")
    assert 'data-sort="nan"' not in render_comparison(compare(parse(before), parse(after)))


def test_a_value_that_could_not_be_measured_has_no_difference(before, after):
    first(after, **GREEDY)["value"] = None
    pairs = compare(parse(before), parse(after)).pairs
    assert [p.difference for p in pairs if p.measure == GREEDY["measure"] and p.b is None] == [None]


def test_audits_of_different_text_are_refused_unless_told(before, after):
    after["target"]["sha256"] = "other"
    with pytest.raises(InputError, match="--different-text"):
        compare(parse(before), parse(after))
    found = compare(parse(before), parse(after), different_text=True)
    assert not found.same_text
    assert "are of different text" in Page(render_comparison(found)).text


def test_json_has_a_version_and_everything(before, after):
    content = json.loads(json.dumps(compare(parse(before), parse(after)).to_json()))
    assert (content["format"], content["format_version"]) == ("memsinks-audit-comparison", 1)
    assert len(content["pairs"]) == len(before["figures"])


def test_the_page_has_every_pair_and_loads_nothing(before, after):
    one = first(after, **GREEDY)
    one["value"], one["low"], one["high"] = 0.5, 0.4, 0.6
    after["run"]["name"] = "<b>after</b>"
    found = compare(parse(before), parse(after))
    html = render_comparison(found)
    page = Page(html)
    assert page.open == []
    assert "<b>after</b>" in page.text
    assert "−50.0 points" in page.text
    assert page.text.count("overlap") >= sum(p.intervals == "overlap" for p in found.pairs)
    assert all(pair.measure in page.text for pair in found.pairs)
    assert not [v for _, a in page.tags for n, v in a.items() if n in LOADING and not v.startswith(("#", "data:"))]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert len(html) < 300_000


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.25, "rate", "+25.0 points"), (-0.5, "AUC", "−0.500"), (0.0, "tokens", "±0"), (None, "AUC", "–")],
)
def test_differences_have_signs(value, unit, text):
    assert signed(value, unit) == text
