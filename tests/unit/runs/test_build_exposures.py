"""The plan of exposures that settings make, what it governs, and its table."""

import numpy as np
import pytest
import torch

from memsinks.errors import ConfigError, InputError
from memsinks.runs.build import plan_run
from memsinks.runs.exposures import as_lines, exposures_table
from memsinks.stream import ExposurePlan
from memsinks.training.run import train

from .conftest import training


def test_the_plan_is_once_then_repeated_then_capped(configured, corpus):
    names = training(corpus, 2)
    once = plan_run(configured()).text.plan.counts
    assert once.tolist() == (~corpus.is_validation).astype(int).tolist()
    repeated = plan_run(configured(exposures__repeat=names, exposures__times=9)).text
    expected = once.copy()
    expected[[corpus.index(n) for n in names]] = 9
    assert repeated.plan.counts.tolist() == expected.tolist()
    capped = plan_run(configured(exposures__repeat=names, exposures__times=9, exposures__cap=4)).text
    assert capped.plan.counts.tolist() == np.minimum(expected, 4).tolist()
    assert capped.governed.tolist() == repeated.governed.tolist()
    assert repeated.facts() != capped.facts()


def test_governed_is_judged_after_the_cap(configured, corpus):
    name = training(corpus, 1)[0]
    text = plan_run(configured(exposures__repeat=[name], exposures__times=9, exposures__cap=1)).text
    assert not text.governed[corpus.index(name)]


def test_a_plan_file_with_repeats_on_top(configured, corpus, tmp_path):
    names = training(corpus, 3)
    ExposurePlan.once(corpus).only(names).repeat(names[:1], 5).save(tmp_path / "plan.parquet")
    text = plan_run(
        configured(exposures__plan=tmp_path / "plan.parquet", exposures__repeat=names[1:2], exposures__times=7)
    ).text
    planned = {corpus.documents[i]: int(n) for i, n in enumerate(text.plan.counts) if n}
    assert planned == {names[0]: 5, names[1]: 7, names[2]: 1}


def test_the_plan_is_made_in_the_order_that_is_documented(configured, corpus):
    """Upsample, weights, repeat, epochs, cap, cap_id: each on what the one before left."""
    name = next(n for n in training(corpus, 9) if corpus.sources[corpus.index(n)] == "p1")
    text = plan_run(
        configured(
            seed=5,
            exposures__upsample={"p0": 1.5},
            exposures__weights={"p1": 0.5, "*": 0.5},
            exposures__mixture_epochs=3.0,
            exposures__repeat=[name],
            exposures__times=40,
            exposures__epochs=2,
            exposures__cap=30,
            exposures__cap_id=7,
        )
    ).text
    weighted = (
        ExposurePlan.once(corpus)
        .upsample({"p0": 1.5}, seed=5)
        .weighted({"p1": 0.5, "*": 0.5}, mixture_epochs=3, seed=5)
    )
    expected = weighted.repeat([name], 40).epochs(2).cap(30).cap_id(7, seed=5)
    assert text.plan.counts.tolist() == expected.counts.tolist()
    assert text.plan.counts[corpus.index(name)] == 7
    by_id: dict[int, int] = {}
    for sequence_id, count in zip(corpus.sequence_ids.tolist(), text.plan.counts.tolist(), strict=True):
        by_id[sequence_id] = by_id.get(sequence_id, 0) + count
    assert max(by_id.values()) == 7


def test_factors_go_by_source_and_stay_with_a_plan_file(configured, corpus, tmp_path):
    names = training(corpus, 3)
    ExposurePlan.once(corpus).only(names).save(tmp_path / "plan.parquet")
    source = corpus.sources[corpus.index(names[0])]
    plan = plan_run(
        configured(exposures__plan=tmp_path / "plan.parquet", exposures__upsample={source: 3}, exposures__epochs=2)
    ).text.plan
    planned = {corpus.documents[i]: int(n) for i, n in enumerate(plan.counts) if n}
    assert planned == {n: 6 if corpus.sources[corpus.index(n)] == source else 2 for n in names}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"exposures__weights": {"p9": 1, "*": 1}},
            r"^exposures\.weights: no document has the source 'p9'; did you mean",
        ),
        ({"exposures__weights": {"p1": 1}}, r"^exposures\.weights: the source 'p0' has no weight"),
        (
            {"exposures__weights": {"p1": 0.9, "*": 0.1}},
            r"^exposures\.weights: a budget of .* give mixture_tokens=\d+ ",
        ),
        ({"exposures__upsample": {"p9": 2}}, r"^exposures\.upsample: no document has the source 'p9'"),
        ({"exposures__upsample": {"x": 2}, "exposures__upsample_column": "team"}, r"^exposures\.upsample: .*'team'"),
        ({"exposures__epochs": 2**63 - 1}, r"^exposures\.epochs: .* more than 64 bits count"),
    ],
)
def test_a_mixture_that_does_not_fit_the_corpus_names_its_key(configured, settings, message):
    if "exposures__epochs" in settings:
        settings["exposures__upsample"] = {"p0": 2}
    with pytest.raises(InputError, match=message):
        plan_run(configured(**settings))


def test_steps_that_break_a_cap_per_id_are_refused(configured):
    with pytest.raises(
        ConfigError, match=r"^schedule\.steps=50 goes .* than exposures\.cap_id=1; give at most"
    ) as caught:
        plan_run(configured(exposures__cap_id=1, schedule__steps=50, schedule__batch_size=4))
    most = int(str(caught.value).partition("at most ")[2].partition(" ")[0])
    plan_run(configured(exposures__cap_id=1, schedule__steps=most, schedule__batch_size=4))
    with pytest.raises(ConfigError, match="goes through the plan 2 times"):
        plan_run(configured(exposures__cap_id=1, schedule__steps=most + 1, schedule__batch_size=4))


def test_the_table_of_exposures(configured, corpus):
    config = configured(exposures__weights={"p1": 0.5, "*": 0.5}, exposures__mixture_epochs=2.0, schedule__steps=3)
    lines = as_lines(exposures_table(config, plan_run(config).text))
    assert lines[0].strip() == "Planned exposures"
    assert lines[1].split() == ["source", "documents", "IDs", "min", "mean", "max", "tokens", "share", "governed"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:-1]}
    assert rows.keys() == {"p0", "p1", "p2", "all"}
    assert float(rows["p1"][-2].rstrip("%")) == pytest.approx(50, abs=5)
    assert rows["all"][-2] == "100.0%"
    assert int(rows["all"][0]) == (~corpus.is_validation).sum()
    assert lines[-1].startswith("schedule.steps = 3: ")
    assert lines[-1].endswith("passes over this plan")


def test_governing_reaches_the_text_and_its_hash(configured, corpus):
    text = plan_run(configured(exposures__govern="sources", exposures__govern_values=["p2"])).text
    assert text.governed.tolist() == [s == "p2" for s in corpus.sources]
    other = plan_run(configured(exposures__govern="all", exposures__placebo_share=0.25)).text
    assert other.governed.all()
    assert other.treatment.placebo_share == 0.25
    # A treatment that text does not get is not among its facts, so that a new kind changes nothing for it.
    assert {k for k, v in other.facts().items() if v != text.facts().get(k)} == {"governed", "placebo_share"}
    assert text.facts().keys() == {"corpus", "plan", "governed"}


def test_a_budget_is_refused_where_several_processes_train(configured, monkeypatch, tmp_path):
    blueprint = plan_run(configured(exposures__govern="all", exposures__shared_budget=2))
    assert blueprint.text.treatment.shared_budget == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"exposures\.shared_budget trains in one process"):
        train(torch.nn.Linear(1, 1), blueprint.text, blueprint.config, tmp_path)
