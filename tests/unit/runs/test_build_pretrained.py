"""Runs that go on with a pretrained model: without sinks, with sinks that stay, and with more of them."""

from pathlib import Path

import pytest
import torch
from families import plain_model, sink_model, tokens

import memsinks
from memsinks.errors import CheckpointError, ConfigError
from memsinks.ids import to_tensor
from memsinks.runs.build import brings_sinks, build_model, plan_run
from memsinks.sinks.attach import SinkModel, sinks_of
from memsinks.stream import ExposurePlan
from memsinks.training.exposures import ExposureCounter

from .conftest import ids, training


def test_a_plain_pretrained_model_gets_sinks_that_change_nothing(configured, tmp_path):
    plain = plain_model("llama", vocab_size=300)
    plain.save_pretrained(tmp_path)
    blueprint = plan_run(configured(model__pretrained=str(tmp_path), sinks__pool=12))
    assert blueprint.sinks.init == "noop"
    model = build_model(blueprint).eval()
    x = tokens()
    logits = model(input_ids=x, sequence_ids=torch.arange(3)).logits
    assert torch.equal(logits, model(input_ids=x).logits), "own is off at first"
    torch.testing.assert_close(logits, plain(input_ids=x).logits)
    assert all(s.up.abs().sum() > 0 for s in sinks_of(model))
    with pytest.raises(ConfigError, match=r"sinks\.grow.*no sinks to grow"):
        plan_run(configured(model__pretrained=str(tmp_path), sinks__grow=4))
    drawn = build_model(plan_run(configured(model__pretrained=str(tmp_path), sinks__init="random")))
    assert next(sinks_of(drawn)).down.abs().sum() > 0


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Path:
    """A run that trained IDs 5 and 2**64 - 1: a pool of 12, 4 of them active."""
    folder = tmp_path_factory.mktemp("earlier")
    memsinks.save(sink_model("llama", overrides={"vocab_size": 300}), folder)
    counter = ExposureCounter()
    counter.update([5, 5, 2**64 - 1])
    counter.save(folder)
    return folder


def test_kept_sinks_stay_as_they_are(configured, earlier):
    config = configured(model__pretrained=str(earlier))
    assert brings_sinks(config)
    blueprint = plan_run(config)
    assert (blueprint.sinks.pool, blueprint.sinks.active) == (12, 4)
    model, saved = build_model(blueprint), memsinks.load(earlier)
    assert model.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert not isinstance(
        build_model(plan_run(configured(model__pretrained=str(earlier), sinks__attach=False))), SinkModel
    )


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("pool", 12, 13),
        ("active", 4, 5),
        ("block", 1, 2),
        ("allocation", "hashed", "disjoint"),
        ("kernel", "gathered", "dense"),
        ("init", "auto", "random"),
        ("layers", [], [1]),
        ("mask", "per_layer", "shared"),
    ],
)
def test_kept_sinks_refuse_another_shape(configured, earlier, key, same, other):
    assert plan_run(configured(model__pretrained=str(earlier), **{f"sinks__{key}": same})).sinks.pool == 12
    with pytest.raises(ConfigError, match=rf"sinks\.{key}: .*sinks already"):
        plan_run(configured(model__pretrained=str(earlier), **{f"sinks__{key}": other}))


def test_growth_keeps_the_rows_of_ids_that_the_earlier_run_trained(configured, earlier):
    old = memsinks.load(earlier)
    blueprint = plan_run(configured(model__pretrained=str(earlier), sinks__grow=8))
    assert blueprint.sinks.pool == 12
    model = build_model(blueprint)
    assert model.sink_config.pool == 20
    assert [s.up.shape[0] for s in sinks_of(model)] == [20, 20]
    trained, others = to_tensor([5, 2**64 - 1]), torch.arange(1000, 1100)
    before = old.sink_allocation.rows(trained, old.sink_config, 2)
    assert torch.equal(model.sink_allocation.rows(trained, model.sink_config, 2), before)
    assert model.sink_allocation.rows(others, model.sink_config, 2).min() >= 12
    for mine, theirs in zip(sinks_of(model), sinks_of(old), strict=True):
        assert torch.equal(mine.down[:12], theirs.down)


def test_growth_without_the_record_of_what_was_trained_is_refused(configured, tmp_path):
    memsinks.save(sink_model("llama", overrides={"vocab_size": 300}), tmp_path)
    blueprint = plan_run(configured(model__pretrained=str(tmp_path), sinks__grow=8))
    with pytest.raises(CheckpointError, match=r"exposures\.parquet"):
        build_model(blueprint)


def test_new_owners_join_those_that_a_kept_pool_has(configured, corpus, tmp_path):
    """Disjoint rows of an earlier run stay with their owners; governed IDs of this one get the next."""
    names = training(corpus, 3)
    first, second = ids(corpus, names[:2]), ids(corpus, names[1:])
    model = sink_model("llama", overrides={"vocab_size": 300}, pool=12, active=4, allocation="disjoint")
    memsinks.register(model, first)
    memsinks.save(model, tmp_path)
    settings = {"model__pretrained": str(tmp_path), "exposures__repeat": names[1:], "exposures__times": 2}
    settings |= {"exposures__plan": tmp_path / "plan.parquet"}
    ExposurePlan.once(corpus).only(names[1:]).save(tmp_path / "plan.parquet")
    blueprint = plan_run(configured(**settings))
    assert blueprint.owners.tolist() == second
    built = build_model(blueprint)
    rows = built.sink_allocation.rows(to_tensor([*first, second[1]]), built.sink_config, 1)[0]
    assert rows.flatten().tolist() == list(range(12))
