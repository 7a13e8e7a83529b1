"""A trial's sample keeps its promises, and its arms tell memory from none."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from memsinks.errors import ConfigError, InputError
from memsinks.readiness import trial
from memsinks.readiness.trial import FOLDED, TrialConfig, run_trial
from memsinks.readiness.trial_text import LEAST, MOST, sample
from tests.unit.readiness.conftest import prepared, rows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Text of a press and of the web, some of it copied, some of it held out."""
    documents = rows(12, "press") + rows(30, "web", 100) + rows(4, "alone", 200)
    for copy, of in ((1, 0), (20, 2), (30, 21)):
        documents[copy]["text"] = documents[of]["text"]
    for row in documents[8:12] + documents[36:42]:
        row["held_out"] = True
    return prepared(tmp_path_factory.mktemp("trial"), documents)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.integers(2_000, 20_000),
    exposures=st.none() | st.integers(2, 12),
    seed=st.integers(0, 5),
    times=st.integers(1, 9),
)
def test_no_arm_without_the_target_ever_sees_it(corpus, planned, tokens, exposures, seed, times):
    repeat = {"repeat": [f"press-{i}" for i in range(8)], "times": times}
    govern = {"govern": "sources", "govern_values": ["press", "alone"]}
    text = planned(corpus, govern | repeat)[1].text
    # Too few tokens for two documents is refused, which the test below looks at.
    assume(tokens >= 2 * (exposures or 16) * corpus.lengths.max())
    found = sample(text, tokens, exposures, 64, seed)
    assert len(found.target) >= 2
    assert text.governed[found.target].all()
    unseen = found.plan(0).counts > 0
    assert unseen.any()
    for ids in (corpus.group_ids, corpus.sequence_ids):
        assert not np.intersect1d(ids[found.target], ids[unseen]).size
    held_out = np.concatenate([found.domain, found.other])
    assert not np.intersect1d(corpus.group_ids[found.target], corpus.group_ids[held_out]).size
    assert corpus.is_validation[held_out].all()
    assert {corpus.sources[i] for i in found.domain} <= {corpus.sources[i] for i in found.target}
    assert not {corpus.sources[i] for i in found.other} & {corpus.sources[i] for i in found.target}
    assert (found.rest[unseen] == text.plan.counts[unseen]).all()
    standard = found.plan(found.exposures)
    assert standard.tokens <= 2 * tokens
    assert (standard.counts[found.target] == found.exposures).all()
    wanted = max(times, 2) if times > 1 else 16
    assert found.exposures == (wanted if exposures is None else exposures)
    again = sample(text, tokens, exposures, 64, seed)
    assert np.array_equal(again.rest, found.rest)
    assert np.array_equal(again.target, found.target)


def test_the_target_has_its_share(corpus, planned):
    text = planned(corpus, {"govern": "sources", "govern_values": ["press"]})[1].text
    share = (text.plan.counts * corpus.lengths)[text.governed].sum() / text.plan.tokens
    assert LEAST < share < MOST
    found = sample(text, 40_000, 4, 64, 0)
    spent = found.exposures * corpus.lengths[found.target].sum()
    assert spent <= share * 40_000 < spent + found.exposures * corpus.lengths.max() or len(found.target) == 8


def test_sources_of_which_something_is_held_out_come_first(corpus, planned):
    for seed in range(5):
        text = planned(corpus, {"govern": "sources", "govern_values": ["press", "alone"]})[1].text
        found = sample(text, 4_000, 2, 64, seed)
        assert {corpus.sources[i] for i in found.target} == {"press"}
        assert len(found.domain) == 4


def test_passages_are_cut_as_rows_are(corpus, planned):
    found = sample(planned(corpus)[1].text, 20_000, 2, 64, 0)
    passages = found.sets()["target"]
    assert len({p.name for p in passages}) == len(passages)
    by_document = {}
    for passage in sorted(passages, key=lambda p: int(p.name.rpartition(":")[2])):
        by_document.setdefault(passage.name.rpartition(":")[0], []).append(passage.tokens)
    assert set(by_document) == {corpus.documents[i] for i in found.target}
    for name, parts in by_document.items():
        assert np.array_equal(np.concatenate(parts), corpus.tokens(corpus.index(name)))
        assert all(len(part) == 64 for part in parts[:-1])


def test_text_that_cannot_be_tried_is_refused(corpus, planned, tmp_path):
    nothing_held_out = prepared(tmp_path / "a", rows(4, "press") + rows(4, "web", 100))
    with pytest.raises(InputError, match="no document is held out"):
        sample(planned(nothing_held_out)[1].text, 1000, None, 64, 0)
    documents = rows(3, "press") + rows(2, "web", 100)
    documents[-1]["held_out"] = True
    one_id = prepared(tmp_path / "b", documents, "source")
    alone = planned(one_id, {"govern": "all", "weights": {"press": 1.0, "web": 0.0}})[1].text
    with pytest.raises(InputError, match="all planned documents have the IDs"):
        sample(alone, 900, None, 64, 0)
    with pytest.raises(InputError, match="--trial-tokens"):
        sample(planned(corpus)[1].text, 100, 50, 64, 0)
    for options, message in (({"tokens": 0}, "--trial-tokens"), ({"exposures": 1}, "--trial-exposures")):
        with pytest.raises(ConfigError, match=message):
            TrialConfig(**options)


@pytest.mark.parametrize(
    ("layers", "pretrained", "tried"),
    [("auto", None, "auto"), ("auto", "base", ()), ("late", "base", "late"), ((0,), None, ()), ("all", None, ())],
)
def test_a_trial_has_its_sinks_where_the_run_has_them(corpus, planned, layers, pretrained, tried):
    plan, _ = planned(corpus, sinks={"layers": layers})
    model = dataclasses.replace(plan.config.model, pretrained=pretrained)
    plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, model=model))
    assert trial._layers(plan) == tried


def test_a_trial_finds_planted_memory_and_goes_on_where_it_was(corpus, planned, tmp_path, monkeypatch):
    exposures = {"govern": "sources", "govern_values": ["press"]}
    plan, blueprint = planned(
        corpus, exposures, sinks={"allocation": "disjoint", "active": 60}, optimizer={"sink_lr_multiplier": 5.0}
    )
    size = TrialConfig(tokens=75_000, exposures=200)
    found = run_trial(plan, blueprint, size, tmp_path / "trial", progress=False)
    assert found.tells
    assert found.memorised.interval.estimate < 0.3 < 0.6 < found.forgotten.interval.estimate
    assert found.extracted["standard"] > found.extracted["unseen"]
    assert {row.arm for row in found.rows} == {"standard", "once", "unseen", "sinks"}
    assert len({row.value for row in found.rows if row.measure == "steps"}) == 1
    assert {row.mode for row in found.rows if row.arm == "sinks" and row.measure == "target"} == {"own", "off", FOLDED}
    assert set(found.relearned) == {"standard", "off", "unseen"}
    assert not found.comes_back(0.1)
    monkeypatch.setattr("memsinks.experiments.lab.execute", None)
    again = run_trial(plan, blueprint, size, tmp_path / "trial", progress=False)
    assert dataclasses.asdict(again) == dataclasses.asdict(found)
