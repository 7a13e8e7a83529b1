"""Plans of small corpora: facts, candidates, fits, recommendations and warnings."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks.config import parse_config
from memsinks.errors import ConfigError, InputError
from memsinks.planning.overlap import fraction_lost
from memsinks.planning.plan import make_plan, plan_blueprint, readable
from memsinks.planning.question import Question
from memsinks.runs.build import build_model, plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.estimate import estimate
from memsinks.runs.memory import Geometry
from tests.unit.planning.conftest import documents, prepared

HALF = {"govern": "sources", "govern_values": ["p0", "p1"]}


def planned(config, **asked):
    blueprint = plan_blueprint(config)
    like = estimate(blueprint.model_config, blueprint.sinks, Geometry(rows=2, row_tokens=32), tokens=1000)
    return make_plan(config, blueprint, like, Question(**{"draws": 20} | asked))


def by_name(plan):
    return {a.candidate.name: a for a in plan.assessments}


def codes(plan):
    return [caution.code for caution in plan.cautions]


def test_facts_of_the_text(corpus, run_config):
    plan = planned(run_config(corpus, HALF), remove=(1,))
    chosen = [i for i, s in enumerate(corpus.sources) if s in ("p0", "p1") and not corpus.is_validation[i]]
    assert plan.text.ids.tolist() == corpus.sequence_ids[chosen].tolist()
    assert plan.text.tokens.tolist() == corpus.lengths[chosen].tolist()
    assert plan.text.documents == len(chosen)
    assert plan.text.planned_documents == int((~corpus.is_validation).sum())
    assert list(plan.text.sources) == ["p0", "p1", "p2", "p3"]
    assert plan.text.sources["p2"].governed == 0 < plan.text.sources["p2"].documents
    assert plan.corpus == corpus.hash


def test_copies_count_once_in_tokens_and_each_time_in_exposures(tmp_path, run_config):
    rows = documents()
    rows[6]["text"] = rows[2]["text"]  # of the same source
    corpus = prepared(tmp_path / "copies", rows)
    assert not corpus.is_validation[2]
    plan = planned(run_config(corpus), remove=(1,))
    place = plan.text.ids.tolist().index(int(corpus.sequence_ids[2]))
    assert plan.text.tokens[place] == corpus.lengths[2]
    assert plan.text.exposures[place] == 2
    assert len(plan.text) == plan.text.documents - 1


def test_hashed_loses_what_the_formula_says_and_disjoint_nothing(corpus, run_config):
    plan = planned(run_config(corpus), remove=(1, 5))
    hashed, disjoint = plan.assessments
    assert [loss.expected for loss in hashed.losses] == pytest.approx([fraction_lost(60, 6, m) for m in (1, 5)])
    assert [loss.simulated.mean for loss in hashed.losses] == pytest.approx([0.1, 0.41], abs=0.05)
    assert [loss.expected for loss in disjoint.losses] == [0, 0]
    assert all(loss.simulated is None for loss in disjoint.losses)
    assert int(disjoint.candidate.config.pool) == 6 * len(plan.text)
    assert not disjoint.fits
    assert disjoint.cost.parameters == hashed.cost.parameters * len(plan.text) / 10
    assert disjoint.cost.flops == hashed.cost.flops > plan.plain.flops
    assert hashed.cost.sink_state == pytest.approx(12 * hashed.cost.parameters + 8 * 2 * 3 * 60)


@pytest.mark.parametrize(
    ("sinks", "asked", "allocation", "fits"),
    [
        ({}, {"remove": (5,)}, "disjoint", False),
        ({}, {"remove": (5,), "max_pool": 300}, "disjoint", True),
        ({"pool": 600}, {"remove": (5,)}, "disjoint", True),
        ({"pool": 200, "active": 1}, {"remove": (2,), "max_pool": 30}, "disjoint", False),
        ({"pool": 30, "active": 1}, {"remove": (1,)}, "hashed", True),
        ({"pool": 200, "active": 6}, {"remove": (1,), "collateral": 0.1}, "hashed", True),
        ({"pool": 200, "active": 6}, {"remove": (1,), "collateral": 0.0, "max_pool": 100}, "disjoint", False),
        ({}, {"terms": "together"}, "hashed", True),
        ({"pool": 120}, {"terms": "likely", "likely": ("p1",)}, "hybrid", True),
        ({}, {"terms": "likely", "likely": ("p1",), "max_pool": 50}, "hybrid", False),
        ({}, {"terms": "likely", "likely": ("p1",), "collateral": 0.9}, "hashed", True),
        ({"pool": 24, "active": 6}, {"terms": "likely", "likely": ("p0", "p1", "p2", "p3")}, "hashed", True),
        ({"allocation": "disjoint", "pool": None}, {"remove": (5,)}, "disjoint", True),
    ],
)
def test_recommendations(corpus, run_config, sinks, asked, allocation, fits):
    plan = planned(run_config(corpus, **sinks), **asked)
    assert (plan.recommendation.allocation, plan.recommendation.fits) == (allocation, fits)
    assert plan.recommendation.reasons
    chosen = [a for a in plan.assessments if a.candidate.name == allocation]
    assert any(a.fits and a.within for a in chosen) == fits


def test_what_is_recommended_trains(corpus, run_config):
    """The settings of the recommendation make a model whose owners have their rows."""
    import tomllib

    config = run_config(corpus, pool=120)
    for asked in ({"remove": (5,), "max_pool": 300}, {"terms": "likely", "likely": ("p1", "p2"), "max_pool": 200}):
        r = planned(config, **asked).recommendation
        assert r.fits
        sinks = tomllib.loads(r.settings)["sinks"]
        again = replace(config, sinks=parse_config(RunConfig, {"sinks": sinks}).sinks)
        blueprint = plan_run(again)
        model = build_model(blueprint)
        assert model.sink_allocation.kind == r.allocation
        assert len(model.sink_allocation.owner_ids) == len(blueprint.owners) > 0
        plan = planned(again, **asked)
        assert plan.recommendation.as_in_run
        assert "overlap" not in codes(plan) or r.allocation == "hybrid"


def test_the_smallest_pool_that_is_named_keeps_to_the_terms(corpus, run_config):
    config = run_config(corpus, pool=20, active=2)
    asked = {"remove": (1,), "collateral": 0.05}
    r = planned(config, **asked).recommendation
    # Hashed needs 40 rows for one removal, disjoint 72.
    assert (r.allocation, r.pool, r.fits) == ("hashed", 40, False)
    larger = planned(run_config(corpus, pool=40, active=2), **asked).recommendation
    assert larger.fits
    assert larger.as_in_run
    assert not planned(run_config(corpus, pool=39, active=2), **asked).recommendation.fits
    # The other way out: as many active sinks as the pool of 20 bears.
    assert any("at most 1 under hashed" in reason for reason in r.reasons)
    assert not any("disjoint allocation, at most" in reason or "0 under" in reason for reason in r.reasons)
    assert planned(run_config(corpus, pool=20, active=1), **asked).recommendation.fits


def test_hybrid_spares_the_likely_and_squeezes_the_others(corpus, run_config):
    plan = planned(run_config(corpus, pool=120), terms="likely", likely=("p1",), remove=(1,))
    hybrid = by_name(plan)["hybrid"]
    owners = len(plan.text.sources["p1"].ids)
    assert int(hybrid.candidate.config.owned) == 6 * owners
    assert int(hybrid.candidate.config.pool) == 120
    assert hybrid.likely.expected == hybrid.likely.mean == hybrid.likely.worst == 0
    assert hybrid.likely.survivors == len(plan.text) - owners
    hashed = by_name(plan)["hashed"]
    assert hashed.likely.expected == pytest.approx(fraction_lost(120, 6, owners))
    assert hashed.likely.mean == pytest.approx(hashed.likely.expected, abs=0.06)
    # With more room the shared part stays whole.
    roomy = planned(run_config(corpus, pool=120), terms="likely", likely=("p1",), max_pool=1000)
    assert by_name(roomy)["hybrid"].candidate.shared_rows == 120


def test_a_hybrid_run_is_compared_as_it_is(corpus, run_config):
    config = run_config(corpus, pool=120, allocation="hybrid", owned=60, owners=["p1"])
    plan = planned(config, terms="likely", remove=(1,))
    assert [a.candidate.of_run for a in plan.assessments] == [False, False, True]
    assert plan.of_run.candidate.shared_rows == 60
    other = planned(config, terms="likely", likely=("p2",), remove=(1,))
    assert [a.candidate.name for a in other.assessments] == ["hashed", "disjoint", "hybrid", "hybrid"]
    assert [a.candidate.of_run for a in other.assessments] == [False] * 3 + [True]
    assert "likely" in codes(other)


def test_a_run_that_training_refuses_is_planned_and_named(corpus, run_config):
    for sinks in ({"allocation": "disjoint"}, {"pool": 60, "allocation": "hybrid", "owned": 6, "owners": ["p1"]}):
        config = run_config(corpus, **sinks)
        plan = planned(config, remove=(1,))
        assert "owned rows" in codes(plan)
        assert not plan.of_run.fits
        with pytest.raises(ConfigError):
            build_model(plan_run(config))


def test_sources_take_all_their_ids(corpus, run_config):
    plan = planned(run_config(corpus), unit="source", remove=(1, 3))
    sizes = [len(source.ids) for source in plan.text.sources.values()]
    expected = np.mean([fraction_lost(60, 6, size) for size in sizes])
    assert len(plan.units) == 4
    assert plan.of_run.losses[0].expected == pytest.approx(expected)
    assert plan.of_run.losses[0].simulated.mean == pytest.approx(expected, abs=0.04)
    assert any("corpus.ids" in reason for reason in plan.recommendation.reasons)
    assert planned(run_config(corpus), unit="source").question.numbers(plan.units) == (1,)


def test_the_loud_sentence(corpus, run_config):
    plan = planned(run_config(corpus, active=0.3), remove=(1, 10))
    message = next(c.message for c in plan.cautions if c.code == "overlap")
    assert f"10 of {len(plan.text)} IDs cover 97.2\N{NO-BREAK SPACE}% of the pool" in message
    assert "takes 97.2\N{NO-BREAK SPACE}% of every survivor's sinks" in message
    assert "is passed when 1 leaves" in message
    assert "overlap" not in codes(planned(run_config(corpus, active=0.3), remove=(10,), collateral=0.98))
    assert "overlap" not in codes(planned(run_config(corpus, active=0.3), remove=(10,), terms="together"))


def test_text_that_no_removal_reaches_is_named(corpus, run_config):
    plan = planned(run_config(corpus, HALF), likely=("p2",), terms="likely", remove=(1,))
    message = next(c.message for c in plan.cautions if c.code == "not governed")
    assert "'p2'" in message
    assert "not governed" not in codes(planned(run_config(corpus, HALF), likely=("p1",), remove=(1,)))
    repeated = {"repeat": [corpus.documents[i] for i in np.flatnonzero(~corpus.is_validation)[:6]]}
    assert "not governed" in codes(planned(run_config(corpus, repeated), unit="source"))
    assert "not governed" not in codes(planned(run_config(corpus, repeated), unit="id"))


def test_ids_of_several_sources_and_of_none_are_named(tmp_path, run_config):
    rows = documents()
    rows[3]["text"] = rows[2]["text"]
    rows[4]["source"] = None
    corpus = prepared(tmp_path / "shared", rows)
    assert not corpus.is_validation[2:5].any()
    plan = planned(run_config(corpus), unit="source", remove=(1,))
    assert {"shared IDs", "no source"} <= set(codes(plan))
    assert (plan.units.shared, plan.units.unnamed) == (1, 1)
    by_id = planned(run_config(corpus), remove=(1,))
    assert not {"shared IDs", "no source"} & set(codes(by_id))


def test_small_sinks_are_named(corpus, run_config):
    assert "capacity" in codes(planned(run_config(corpus, pool=4, active=1), remove=(1,)))
    assert "capacity" not in codes(planned(run_config(corpus, pool=4000, active=400), remove=(1,)))


def test_one_id_is_no_comparison_but_a_plan(corpus, run_config):
    training = np.flatnonzero(~corpus.is_validation)
    plan = planned(run_config(corpus, {"repeat": [corpus.documents[training[0]]]}))
    assert len(plan.text) == 1
    assert "one unit" in codes(plan)
    assert plan.of_run.losses == ()
    with pytest.raises(InputError, match="remove at most 0"):
        planned(run_config(corpus, {"repeat": [corpus.documents[training[0]]]}), remove=(1,))


def test_the_paper_s_split_says_how_to_keep_the_width(corpus, run_config):
    config = run_config(corpus)
    config = replace(config, sinks=replace(config.sinks, pool=None, active=0.5, shared=0.7))
    plan = planned(config, remove=(5,), max_pool=1000)
    assert plan.recommendation.allocation == "disjoint"
    assert any("28 hidden units" in reason for reason in plan.recommendation.reasons)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"likely": ("p9",)}, "'p9'.*did you mean"),
        ({"unit": "source", "remove": (4,)}, "4 governed sources; remove at most 3"),
        ({"terms": "likely"}, "--likely"),
    ],
)
def test_bad_questions_about_a_corpus(corpus, run_config, asked, words):
    with pytest.raises(InputError, match=words):
        planned(run_config(corpus), **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"remove": (0,)}, "--remove"),
        ({"collateral": 1.0}, "--collateral"),
        ({"max_pool": 0}, "--max-pool"),
        ({"draws": 1}, "--draws"),
        ({"unit": "page"}, "--unit"),
        ({"terms": "never"}, "--terms"),
    ],
)
def test_bad_questions(asked, words):
    with pytest.raises(InputError, match=words):
        Question(**asked)


def test_a_corpus_without_sources_or_governed_text(tmp_path, run_config):
    corpus = prepared(tmp_path / "bare", documents(), source=None)
    with pytest.raises(InputError, match="--source-column"):
        planned(run_config(corpus), unit="source")
    with pytest.raises(InputError, match="no document has a source"):
        planned(run_config(corpus), likely=("p1",))
    assert planned(run_config(corpus), remove=(1,)).text.sources == {}
    with pytest.raises(InputError, match=r"exposures\.govern"):
        planned(run_config(corpus, {}))


def test_runs_without_a_new_pool_are_refused(corpus, run_config, tmp_path):
    config = run_config(corpus)
    with pytest.raises(ConfigError, match=r"sinks\.attach"):
        readable(replace(config, sinks=replace(config.sinks, attach=False)))
    (tmp_path / "sinks.json").write_text("{}")
    with pytest.raises(ConfigError, match="has sinks already"):
        readable(replace(config, model=replace(config.model, pretrained=str(tmp_path))))
