"""Answers from figures: what stands out, what cannot be told, and that innocent models are not accused."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from memsinks.audit.findings import Figure
from memsinks.audit.statistics import wilson
from memsinks.auditing.verdicts import _binomial, expected, verdicts


def rate(successes, trials, measure="greedy", **other):
    content = {"section": "extraction", "condition": "off", "texts": "target", "unit": "rate", "number": trials}
    return Figure.of(wilson(successes, trials), measure=measure, **{**content, "question": "extractable", **other})


def auc(value, half, condition="off", **other):
    content = {
        "section": "membership",
        "measure": "loss",
        "texts": "target",
        "unit": "AUC",
        "number": 40,
        "chance": 0.5,
    }
    interval = {"low": value - half, "high": value + half}
    return Figure(condition=condition, value=value, **{**content, **interval, "question": "member", **other})


def answer(figures, key, complete=False):
    return next(v for v in verdicts(figures, complete=complete) if v.key == key)


def test_a_rate_of_thousands_of_trials_is_tested_against_chance():
    for successes in (0, 180, 250):
        exact = Fraction(sum(math.comb(2000, k) * 9 ** (2000 - k) for k in range(successes, 2001)), 10**2000)
        assert _binomial(successes, 2000, 0.1) == pytest.approx(float(exact), rel=1e-9)
    assert (_binomial(0, 10, 0.0), _binomial(1, 10, 0.0), _binomial(3, 10, 1.0)) == (1.0, 0.0, 1.0)
    assert answer([rate(250, 2000, chance=0.1)], "extractable").answer == "yes"


def test_text_that_comes_out_more_than_unseen_text_is_extractable():
    found = answer([rate(30, 40), rate(1, 200, texts="unseen")], "extractable")
    assert (found.answer, found.condition, found.basis) == ("yes", "off", ("extraction: greedy",))
    assert "0.75 rate" in found.says
    assert "0.005" in found.says


def test_text_that_comes_out_no_more_than_unseen_text_is_not():
    assert answer([rate(0, 100), rate(0, 200, texts="unseen")], "extractable").answer == "no"


def test_few_documents_cannot_rule_it_out():
    found = answer([rate(0, 4), rate(0, 200, texts="unseen")], "extractable")
    assert found.answer == "not sure"
    assert "4 documents or trials are few" in found.says


def test_all_documents_there_are_can():
    assert answer([rate(0, 4), rate(0, 200, texts="unseen")], "extractable", complete=True).answer == "no"
    assert answer([auc(0.5, 0.3)], "member", complete=True).answer == "not sure", "an AUC stays an estimate"


def test_one_document_of_many_that_comes_out_is_no_accident_where_chance_is_none():
    figures = [rate(1, 100), rate(0, 200, texts="unseen")]
    assert answer(figures, "extractable").answer == "no"
    assert answer([replace(figures[0], chance=1e-9), figures[1]], "extractable").answer == "yes"


def test_nothing_measured_is_not_a_no():
    assert {v.answer for v in verdicts([], complete=False)} == {"not measured"}
    assert answer([replace(rate(30, 40), value=None)], "extractable").answer == "not measured"
    assert answer([replace(rate(30, 40), question="")], "extractable").answer == "not measured"


def test_the_model_that_is_handed_out_is_asked_about():
    figures = [rate(40, 40, condition="own"), rate(0, 100), rate(0, 100, condition="removed")]
    assert answer(figures, "held").answer == "yes"
    assert answer(figures, "extractable").condition == "removed"


def test_a_plain_model_has_one_answer_about_extraction():
    assert [v.key for v in verdicts([rate(9, 10, condition="model")], complete=False)].count("extractable") == 1
    assert "held" not in [v.key for v in verdicts([rate(9, 10, condition="model")], complete=False)]


def test_what_a_model_that_never_saw_the_text_gives_away_is_expected():
    own, unseen, reference = rate(20, 40), rate(1, 40, texts="unseen"), rate(18, 40, condition="reference")
    assert expected(own, [own, unseen, reference]) == reference
    assert answer([own, unseen, reference], "extractable").answer == "not sure"
    assert answer([own, unseen], "extractable").answer == "yes"


def test_a_difference_between_the_texts_is_no_membership():
    shift = auc(0.8, 0.05, condition="none", measure="blind", question="shift")
    assert answer([auc(0.9, 0.04)], "member").answer == "yes"
    found = answer([auc(0.9, 0.04), shift], "member")
    assert found.answer == "not sure"
    assert "without any model" in found.says
    assert answer([auc(0.9, 0.04), shift, auc(0.52, 0.04, condition="reference")], "member").answer == "yes"


def test_one_of_many_measures_has_to_stand_out_more():
    # Significant alone, at 3 %, but not as the best of twenty.
    alone = auc(0.6, 0.1 * 1.96 / 1.88)
    others = [auc(0.5, 0.02, measure=f"attack {i}") for i in range(19)]
    assert answer([alone], "member").answer == "yes"
    assert answer([alone, *others], "member").answer == "not sure"


def test_a_figure_without_an_interval_proves_nothing():
    assert answer([auc(0.9, 0.1, low=None, high=None)], "member").answer == "not sure"


@pytest.mark.parametrize("documents", [4, 12, 60])
def test_innocent_models_are_not_accused(documents):
    """Of many audits with twenty measures each at most about one in twenty may accuse."""
    random = np.random.default_rng(documents)
    accused = 0
    for _ in range(300):
        figures = []
        for measure in range(10):
            chance = random.uniform(0, 0.3)
            figures += [
                rate(random.binomial(documents, chance), documents, f"m{measure}"),
                rate(random.binomial(200, chance), 200, f"m{measure}", texts="unseen"),
            ]
            deviation = 0.3 / math.sqrt(documents)
            figures.append(auc(random.normal(0.5, deviation), 1.96 * deviation, measure=f"m{measure}"))
        accused += any(v.answer == "yes" for v in verdicts(figures, complete=False))
    # Two questions at 5 % each, and three deviations of the count.
    assert accused / 300 < 0.0975 + 3 * math.sqrt(0.0975 * 0.9025 / 300)


def test_the_side_of_an_interval_that_faces_chance_decides():
    # Near the end of its scale an interval is short above and long below.
    lopsided = auc(0.95, 0.04, low=0.35, high=0.99)
    assert answer([lopsided], "member").answer == "not sure"
    assert answer([replace(lopsided, low=0.6)], "member").answer == "yes"
