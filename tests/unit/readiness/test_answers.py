"""Verdicts follow from what was found."""

import dataclasses
import json

import pytest

from memsinks.audit import Interval
from memsinks.corpus import consistency
from memsinks.readiness.answer import Finding, answer
from memsinks.readiness.deployment import deployment
from memsinks.readiness.metadata import reliability, stray_share
from memsinks.readiness.readiness import readiness
from memsinks.readiness.report import MARKDOWN, as_dict, markdown, write_report
from memsinks.readiness.target import removal
from memsinks.readiness.threats import threats
from memsinks.readiness.tradeoff import tradeoff
from memsinks.readiness.trial import Compared, TrialOutcome
from tests.unit.readiness.conftest import prepared, rows


def figure(estimate, low=None, high=None):
    return Compared(
        Interval(estimate, estimate - 0.01 if low is None else low, estimate + 0.01 if high is None else high, 0.95)
    )


GOOD = TrialOutcome(
    facts={"target": "3 governed documents"},
    rows=(),
    benefit=figure(0.2),
    domain_cost=figure(-0.1),
    other_cost=figure(0.0),
    damage=figure(0.02),
    memorised=figure(0.1),
    forgotten=figure(0.99),
    extracted={"standard": 1.0, "own": 1.0, "off": 0.0, "unseen": 0.0},
    tried=3,
    relearned={"standard": 0.1, "off": 3.9, "unseen": 4.0},
)


def trial(**changes):
    return dataclasses.replace(GOOD, **changes)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("answers"), rows(8, "press") + rows(6, "web", 100))


def test_the_worst_finding_is_the_verdict_and_comes_first():
    known, grave = Finding(grave=False, says="Known.", remedy="a"), Finding(grave=True, says="Grave.", remedy="b")
    found = answer("x", "?", [], [known, grave, known], well="Well.", not_covered="")
    assert (found.verdict, found.says, found.remedies) == ("not ready", "Grave. Known. Known.", ("b", "a"))
    assert answer("x", "?", [], [known], well="Well.", not_covered="").verdict == "attention"
    well = answer("x", "?", [], [], well="Well.", not_covered="")
    assert (well.verdict, well.says, well.remedies) == ("ready", "Well.", ())


@pytest.mark.parametrize(
    ("spread", "ids", "verdict"), [(0, "content", "ready"), (1, "content", "not ready"), (1, "group", "ready")]
)
def test_near_copies_under_several_ids(tmp_path, planned, spread, ids, verdict):
    documents = rows(8, "press") + rows(6, "web", 100)
    if spread:
        for i in (1, 2):
            documents[i]["text"] = documents[0]["text"].upper() + f" and {i}"
    corpus = prepared(tmp_path, documents, ids)
    text = planned(corpus)[1].text
    found = consistency(text.corpus)
    sizes = corpus.lengths[[corpus.index(f"press-{i}") for i in range(8)]]
    strays = sum(sorted(sizes[:3].tolist())[:2]) if spread and ids == "content" else 0
    assert stray_share(text, found) == pytest.approx(strays / sizes.sum())
    assert reliability(text, found, "id").verdict == verdict


def test_an_id_of_two_sources_matters_most_where_sources_ask(tmp_path, planned):
    documents = rows(8, "press") + rows(6, "web", 100)
    documents[9]["text"] = documents[0]["text"]
    text = planned(prepared(tmp_path, documents), {"govern": "all"})[1].text
    found = consistency(text.corpus)
    assert reliability(text, found, "source").verdict == "not ready"
    assert reliability(text, found, "id").verdict == "attention"


def test_text_that_is_not_governed_is_no_matter_of_removal(tmp_path, planned):
    documents = rows(8, "press") + rows(6, "web", 100) + rows(2, "Web", 200)
    documents[15]["text"] = documents[9]["text"]
    text = planned(prepared(tmp_path, documents))[1].text
    found = consistency(text.corpus)
    assert found.spanning
    assert found.variants
    assert reliability(text, found, "source").verdict == "ready"
    everything = planned(text.corpus, {"govern": "all"})[1].text
    answered = reliability(everything, found, "source")
    assert answered.verdict == "not ready"
    assert "spelled in several ways ('Web', 'web')" in answered.says


def test_governed_text_without_a_source_cannot_be_named(tmp_path, planned):
    documents = rows(8, "press") + rows(6, "web", 100)
    documents[3]["source"] = None
    text = planned(prepared(tmp_path, documents), {"govern": "all"})[1].text
    found = reliability(text, consistency(text.corpus), "source")
    assert found.verdict == "not ready"
    assert "1 governed document has no source" in found.says


def test_what_was_not_looked_for_is_said(tmp_path, planned):
    text = planned(prepared(tmp_path, rows(8, "press") + rows(6, "web", 100), groups=None))[1].text
    found = reliability(text, consistency(text.corpus), "id")
    assert (found.verdict, "not looked for" in found.says) == ("attention", True)


def test_removal_follows_the_plan(corpus, planned):
    hashed = removal(planned(corpus, question={"remove": (3,)})[0])
    assert hashed.verdict == "not ready"
    assert any('allocation = "disjoint"' in remedy for remedy in hashed.remedies)
    disjoint = removal(planned(corpus, question={"remove": (3,)}, sinks={"allocation": "disjoint", "active": 600})[0])
    assert disjoint.verdict == "ready"
    pool = {"allocation": "disjoint", "active": 6, "pool": 12}
    refused = removal(planned(corpus, question={"remove": (3,)}, sinks=pool)[0])
    assert refused.verdict == "not ready"
    assert "Training will refuse this run file" in refused.says
    small = removal(planned(corpus, question={"remove": (3,)}, sinks={"allocation": "disjoint", "active": 2})[0])
    assert small.verdict == "attention"
    assert "too small" in small.says


def test_the_trade_off_is_measured_or_not():
    assert tradeoff(None).verdict == "not measured"
    assert tradeoff(GOOD).verdict == "ready"
    assert tradeoff(trial(benefit=None)).verdict == "not measured"
    assert "does not improve" in tradeoff(trial(benefit=figure(0.01, -0.1, 0.1))).says
    assert "harms" in tradeoff(trial(benefit=figure(-0.2))).says
    assert "sinks took skill" in tradeoff(trial(domain_cost=figure(0.2))).says
    assert "standard training" in tradeoff(trial(other_cost=figure(0.2))).says


def test_threats_by_what_an_attacker_holds(corpus, tmp_path, planned):
    keyed = prepared(tmp_path, rows(8, "press") + rows(6, "web", 100), id_key=b"secret")
    plan = planned(keyed)[0]
    assert threats(plan, keyed, "weights", None).verdict == "not measured"
    assert threats(plan, keyed, "weights", GOOD).verdict == "ready"
    assert threats(plan, keyed, "sinks", GOOD).verdict == "not ready"
    assert threats(planned(corpus)[0], corpus, "weights", GOOD).verdict == "attention"
    leaking = trial(extracted=GOOD.extracted | {"off": 0.5})
    assert threats(plan, keyed, "outputs", leaking).verdict == "not ready"
    hidden = trial(relearned={"standard": 0.1, "off": 1.0, "unseen": 4.0})
    assert threats(plan, keyed, "weights", hidden).verdict == "attention"
    assert threats(plan, keyed, "outputs", hidden).verdict == "ready"
    assert threats(plan, keyed, "weights", trial(forgotten=figure(0.7))).verdict == "attention"


def test_a_trial_that_memorised_nothing_proves_nothing(corpus, planned):
    idle = trial(memorised=figure(0.9))
    plan = planned(corpus)[0]
    assert threats(plan, corpus, "weights", idle).verdict == "not measured"
    assert deployment(plan, "fold", idle).verdict == "not measured"


def test_serving(corpus, planned):
    plan = planned(corpus)[0]
    assert deployment(plan, "off", None).verdict == "ready"
    assert deployment(plan, "route", None).verdict == "not measured"
    assert deployment(plan, "fold", GOOD).verdict == "ready"
    harmful = trial(damage=figure(1.5))
    assert deployment(plan, "fold", harmful).verdict == "not ready"
    assert deployment(plan, "route", harmful).verdict == "attention"


def test_a_report_has_every_answer_on_one_page(corpus, planned, tmp_path):
    plan, blueprint = planned(corpus)
    report = readiness(plan, blueprint.text, trial=GOOD)
    page = markdown(report)
    for found in report.answers:
        assert f"## {found.question}" in page
        assert f"Not covered: {found.not_covered}" in page
        assert all(f"| {evidence.what} | {evidence.shown} |" in page for evidence in found.evidence)
    assert sum(int(part.split()[0]) for part in report.headline.split(", ")) == len(report.answers) == 6
    content = json.loads(json.dumps(as_dict(report), default=str, allow_nan=False))
    assert content["corpus_sha256"] == corpus.hash
    assert [found["verdict"] for found in content["answers"]] == [found.verdict for found in report.answers]
    write_report(report, tmp_path / "report")
    assert (tmp_path / "report" / MARKDOWN).read_text() == page
