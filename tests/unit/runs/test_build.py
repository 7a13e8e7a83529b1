"""From settings to a blueprint and a model: a table of what each setting makes, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from families import plain_model
from transformers import AutoConfig

from memsinks.errors import ConfigError, InputError, MemsinksError
from memsinks.runs.build import build_model, plan_model, plan_run
from memsinks.sinks.attach import SinkModel, sinks_of

from .conftest import WIDTH

# The pool


@pytest.mark.parametrize(
    ("settings", "pool", "active", "width"),
    [
        ({}, 4 * WIDTH, round(0.1 * 4 * WIDTH), WIDTH),
        ({"sinks__pool": 50}, 50, 5, WIDTH),
        ({"sinks__pool": 2.0}, 2 * WIDTH, 8, WIDTH),
        ({"sinks__active": 7}, 4 * WIDTH, 7, WIDTH),
        ({"sinks__active": 0.5}, 4 * WIDTH, 2 * WIDTH, WIDTH),
        ({"sinks__pool": 64, "sinks__block": 16}, 64, 16, WIDTH),
        # The paper's split: what is not shared is the pool, and the model is as much narrower.
        ({"sinks__shared": 0.7}, 12, 4, 28),
        ({"sinks__shared": 0.75, "sinks__active": 0.5}, 10, 5, 30),
    ],
)
def test_the_pool_is_as_large_as_settings_say(configured, settings, pool, active, width):
    blueprint = plan_run(configured(**settings))
    assert (blueprint.sinks.pool, blueprint.sinks.active) == (pool, active)
    assert (type(blueprint.sinks.pool), type(blueprint.sinks.active)) == (int, int)
    assert blueprint.model_config.intermediate_size == width
    model = build_model(blueprint)
    assert [s.up.shape for s in sinks_of(model)] == [(pool, 16)] * (2 if "sinks__shared" in settings else 1)
    assert model.model.layers[0].mlp.up_proj.weight.shape == (width, 16)
    assert model.config.vocab_size == len(blueprint.text.corpus.tokenizer)
    assert len(blueprint.owners) == 0


def test_settings_of_the_pool_are_passed_on(configured):
    settings = {"kernel": "dense", "init": "noop", "block": 4, "mask": "shared"}
    sinks = plan_run(configured(seed=9, sinks__active=8, **{f"sinks__{k}": v for k, v in settings.items()})).sinks
    assert sinks.seed == 9
    assert {key: getattr(sinks, key) for key in settings} == settings
    assert plan_run(configured(sinks__shared=0.7, sinks__mask="shared")).sinks.mask == "shared"


@pytest.mark.parametrize(
    ("depth", "layers", "numbers"),
    [
        (4, [], (0, 1, 2, 3)),
        (4, "all", (0, 1, 2, 3)),
        (4, "auto", (0, 1)),
        (4, [1, 3], (1, 3)),
        (4, "early", (0, 1)),
        (4, "late", (2, 3)),
        (5, "early", (0, 1, 2)),
        (5, "late", (2, 3, 4)),
        (1, "late", (0,)),
    ],
)
def test_the_layers_with_sinks(configured, depth, layers, numbers):
    blueprint = plan_run(configured(model__layers=depth, sinks__layers=layers))
    assert tuple(s.layer_index for s in sinks_of(build_model(blueprint))) == numbers


def test_by_default_a_new_model_has_sinks_in_early_layers_and_any_other_in_all(configured, tmp_path):
    def placed(**settings):
        return tuple(s.layer_index for s in sinks_of(build_model(plan_run(configured(**settings)))))

    assert placed() == (0,)
    assert placed(sinks__shared=0.7) == (0, 1)
    build_model(plan_run(configured(sinks__attach=False, exposures__repeat=[]))).save_pretrained(tmp_path / "plain")
    assert placed(model__pretrained=str(tmp_path / "plain")) == (0, 1)


def test_layers_and_masks_that_do_not_fit_are_refused(configured):
    with pytest.raises(ConfigError, match=r"layers=\[2\]: this model has 2 decoder layers"):
        plan_run(configured(sinks__layers=[2]))
    for layers in ([0, 0], [1, 0], [-1]):
        with pytest.raises(ConfigError, match=r"sinks\.layers must be .*each once"):
            configured(sinks__layers=layers)
    for layers in ([0], "late"):
        with pytest.raises(ConfigError, match=r"every layer needs sinks; leave sinks\.layers out"):
            configured(sinks__layers=layers, sinks__shared=0.7)
    with pytest.raises(ConfigError, match=r"sinks\.mask is about hashing"):
        configured(sinks__mask="shared", sinks__allocation="disjoint")


def test_the_pool_of_the_paper_takes_no_count_of_active_sinks(configured):
    with pytest.raises(ConfigError, match=r"sinks\.active=4.*sinks\.shared"):
        plan_run(configured(sinks__shared=0.7, sinks__active=4))


def test_a_baseline_has_no_sinks(configured):
    blueprint = plan_run(configured(sinks__attach=False, exposures__repeat=[], sinks__allocation="disjoint"))
    assert blueprint.sinks is None
    assert len(blueprint.owners) == 0
    assert not isinstance(build_model(blueprint), SinkModel)


def test_the_same_seed_builds_the_same_model_and_another_another(configured):
    first, second, other = (build_model(plan_run(configured(seed=s))).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for part in ("model.embed_tokens.weight", "model.layers.0.mlp.sinks.down"):
        assert not torch.equal(first[part], other[part])


def test_planning_a_model_needs_no_corpus_where_its_configuration_is_given(configured, tmp_path):
    AutoConfig.for_model("llama", hidden_size=16, intermediate_size=50, num_attention_heads=2).save_pretrained(tmp_path)
    model_config, sinks = plan_model(configured(model__config=tmp_path / "config.json", corpus__path="nowhere"))
    assert (model_config.intermediate_size, sinks.pool) == (50, 200)
    with pytest.raises(ConfigError, match="nowhere: no such corpus"):
        plan_model(configured(corpus__path="nowhere"))


# What cannot be used


def test_missing_files_are_named_before_anything_is_built(configured, corpus, tmp_path):
    validation = corpus.documents[int(np.flatnonzero(corpus.is_validation)[0])]
    bad_plan = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"document": ["nobody"], "exposures": [1]}), bad_plan)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "typeless.json").write_text('{"hidden_size": 3}')
    for settings, words in [
        ({"corpus__path": tmp_path / "nothing"}, ["nothing"]),
        ({"exposures__plan": tmp_path / "no.parquet"}, ["no.parquet"]),
        ({"exposures__plan": bad_plan}, ["bad.parquet", "nobody"]),
        ({"exposures__repeat": ["nobody"]}, ["nobody"]),
        ({"exposures__repeat": [validation]}, [validation, "held out"]),
        ({"model__config": tmp_path / "no.json"}, ["model.config", "no.json"]),
        ({"model__config": tmp_path / "broken.json"}, ["model.config", "broken.json"]),
        ({"model__config": tmp_path / "typeless.json"}, ["model.config", "typeless.json"]),
        ({"model__pretrained": str(tmp_path / "nothing")}, ["model.pretrained", "nothing"]),
    ]:
        with pytest.raises(MemsinksError) as caught:
            plan_run(configured(**settings))
        for word in words:
            assert word in str(caught.value), settings
        assert "\n" not in str(caught.value)


def test_a_vocabulary_too_small_is_refused(configured, corpus, tmp_path):
    size = len(corpus.tokenizer)
    for vocabulary in (size - 1, size):
        config = AutoConfig.for_model(
            "llama", vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2,
        )  # fmt: skip
        config.save_pretrained(tmp_path)
        run = configured(model__config=tmp_path / "config.json")
        if vocabulary == size:
            assert plan_run(run).model_config.vocab_size == size
        else:
            with pytest.raises(ConfigError, match=rf"{vocabulary} tokens.*{size}.*--tokenizer"):
                plan_run(run)


@pytest.mark.parametrize("damage", ["missing", "cut", "other shape"])
def test_weights_that_cannot_be_loaded_are_an_input_error(configured, tmp_path, damage):
    plain_model("llama", vocab_size=300).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 20}))
    with pytest.raises(InputError, match=r"model\.pretrained"):
        build_model(plan_run(configured(model__pretrained=str(tmp_path))))
