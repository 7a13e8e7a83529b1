"""The sinks' configuration: counts, fractions, the paper's split, and what is refused."""

import copy
import math
from dataclasses import FrozenInstanceError

import pytest
from families import CONFIGS, FAMILY_NAMES
from transformers import AutoConfig

from memsinks.errors import ConfigError, UnsupportedModelError
from memsinks.sinks.config import SinkConfig, mlp_width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": 10, "active": 11}, "pool of 10 sinks is smaller than active=11"),
        ({"pool": 0, "active": 1}, "pool must be"),
        ({"pool": -1, "active": 1}, "pool must be"),
        ({"pool": True, "active": 1}, "pool must be"),
        ({"pool": "10", "active": 1}, "pool must be"),
        ({"pool": math.nan, "active": 1}, "pool must be"),
        ({"pool": math.inf, "active": 1}, "pool must be"),
        ({"pool": 10, "active": 0}, "active must be"),
        ({"pool": 10, "active": 0.0}, "active must be"),
        ({"pool": 10, "active": -0.5}, "active must be"),
        ({"pool": 10, "active": None}, "active must be"),
        ({"pool": 10, "active": 1.01}, "active=1.01 is a fraction"),
        ({"pool": 10, "active": 4, "block": 4}, "pool=10 is not a multiple of block=4"),
        ({"pool": 12, "active": 6, "block": 4}, "active=6 is not a multiple of block=4"),
        ({"pool": 12, "active": 6, "block": 0}, "block must be"),
        ({"pool": 12, "active": 6, "block": 1.0}, "block must be"),
        ({"pool": 12, "active": 6, "seed": -1}, "seed must be"),
        ({"pool": 12, "active": 6, "seed": 2**63}, "seed must be"),
        ({"pool": 12, "active": 6, "seed": True}, "seed must be"),
        ({"pool": 12, "active": 6, "init": "zeros"}, "init must be one of auto, noop, random"),
        ({"pool": 12, "active": 6, "kernel": "fast"}, "kernel must be one of gathered, dense"),
        ({"pool": 12, "active": 4, "allocation": "own"}, "allocation must be one of hashed, disjoint, hybrid"),
        ({"pool": 12, "active": 4, "owned": 4}, "owned=4 rows need owners; choose allocation='hybrid'"),
        ({"pool": 12, "active": 4, "owned": 0.5}, "owned=0.5 rows need owners"),
        ({"pool": 12, "active": 4, "allocation": "hybrid"}, "needs owned"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": 1.0}, "needs owned, a part of the pool"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": -4}, "owned must be"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": math.nan}, "owned must be"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": True}, "owned must be"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": "4"}, "owned must be"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": 6}, "6 owned rows are not a multiple of active=4"),
        ({"pool": 12, "active": 4, "allocation": "hybrid", "owned": 12}, "less than active=4 to share"),
        ({"pool": 14, "active": 4, "allocation": "disjoint"}, "14 owned rows are not a multiple of active=4"),
        ({"pool": 12, "active": 4, "allocation": "disjoint", "owned": 8}, "the whole pool is owned"),
        ({"pool": 12, "active": 4, "mask": "one"}, "mask must be one of per_layer, shared, not 'one'"),
        ({"pool": 12, "active": 4, "allocation": "disjoint", "mask": "shared"}, "mask is about hashing"),
        ({"pool": 12, "active": 4, "layers": (-1,)}, r"layers must be .* from 0.*not \(-1,\)"),
        ({"pool": 12, "active": 4, "layers": (1, 1)}, "each once"),
        ({"pool": 12, "active": 4, "layers": (1, 0)}, "in ascending order"),
        ({"pool": 12, "active": 4, "layers": (True,)}, "layers must be numbers"),
        ({"pool": 12, "active": 4, "layers": (1.0,)}, "layers must be numbers"),
        ({"pool": 12, "active": 4, "layers": 1}, "layers must be numbers"),
        ({"pool": 12, "active": 4, "layers": "late"}, "layers must be numbers"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SinkConfig(**options)


def test_cannot_be_changed_behind_a_model_s_back():
    config = SinkConfig(pool=12, active=6)
    with pytest.raises(FrozenInstanceError):
        config.seed = 1
    assert config == SinkConfig(pool=12, active=6)


@pytest.mark.parametrize(
    ("options", "width", "pool", "active"),
    [
        ({"pool": 768, "active": 230}, 100, 768, 230),
        ({"pool": 0.5, "active": 0.3}, 100, 50, 15),
        ({"pool": 1.5, "active": 1.0}, 100, 150, 150),
        ({"pool": 2, "active": 2}, 100, 2, 2),
        ({"pool": 1.0, "active": 1}, 100, 100, 1),
        ({"pool": 768, "active": 0.3}, 100, 768, 230),
        ({"pool": 0.001, "active": 0.001}, 100, 1, 1),
        ({"pool": 0.5, "active": 0.3, "block": 8}, 100, 48, 16),
        ({"pool": 768, "active": 0.3, "block": 8}, 100, 768, 232),
    ],
)
def test_fractions_become_counts(options, width, pool, active):
    resolved = SinkConfig(**options, seed=5).resolve(width)
    assert (resolved.pool, resolved.active) == (pool, active)
    assert isinstance(resolved.pool, int)
    assert isinstance(resolved.active, int)
    assert resolved.seed == 5
    assert resolved.resolve(7) == resolved


@pytest.mark.parametrize(
    ("options", "pool", "active", "owned"),
    [
        ({"pool": 12, "active": 4}, 12, 4, 0),
        ({"pool": 12, "active": 4, "allocation": "disjoint"}, 12, 4, 12),
        ({"pool": 12, "active": 4, "allocation": "disjoint", "owned": 1.0}, 12, 4, 12),
        ({"pool": 0.5, "active": 4, "allocation": "disjoint"}, 48, 4, 48),
        ({"pool": 0.5, "active": 7, "allocation": "disjoint"}, 49, 7, 49),
        ({"pool": 0.5, "active": 0.1, "allocation": "disjoint"}, 50, 5, 50),
        ({"pool": 100, "active": 4, "allocation": "hybrid", "owned": 40}, 100, 4, 40),
        ({"pool": 100, "active": 4, "allocation": "hybrid", "owned": 0.25}, 100, 4, 24),
        ({"pool": 1.0, "active": 0.08, "allocation": "hybrid", "owned": 0.01, "block": 4}, 100, 8, 8),
    ],
)
def test_owned_rows_become_a_count(options, pool, active, owned):
    resolved = SinkConfig(**options).resolve(100)
    assert (resolved.pool, resolved.active, resolved.owned) == (pool, active, owned)
    assert resolved.resolve(7) == resolved


def test_owned_fractions_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="50 owned rows are not a multiple of active=15"):
        SinkConfig(pool=0.5, active=0.3, allocation="disjoint").resolve(100)
    with pytest.raises(ConfigError, match="less than active=4 to share"):
        SinkConfig(pool=12, active=4, allocation="hybrid", owned=0.99).resolve(100)


def test_a_fraction_that_gives_too_small_a_pool_is_refused():
    with pytest.raises(ConfigError, match="pool of 10 sinks is smaller than active=11"):
        SinkConfig(pool=0.1, active=11).resolve(100)


def test_the_papers_split():
    model_config = AutoConfig.for_model("llama", **{**CONFIGS["llama"], "intermediate_size": 768})
    before = copy.deepcopy(model_config)
    narrow, sinks = SinkConfig.partition(model_config, shared=0.7, active=0.3, seed=4)
    assert model_config == before
    assert narrow.intermediate_size == 538
    assert (sinks.pool, sinks.active, sinks.seed) == (230, 69, 4)
    assert {k: v for k, v in narrow.to_dict().items() if v != before.to_dict()[k]} == {"intermediate_size": 538}
    assert SinkConfig.partition(model_config)[1] == SinkConfig(pool=230, active=69)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_can_be_split(family):
    model_config = AutoConfig.for_model(family, **CONFIGS[family])
    width = mlp_width(model_config)
    narrow, sinks = SinkConfig.partition(model_config, shared=0.5, active=0.5)
    assert mlp_width(narrow) == width - sinks.pool == width // 2
    assert sinks.active == width // 4


def test_gpt2_without_an_explicit_width():
    model_config = AutoConfig.for_model("gpt2", **{**CONFIGS["gpt2"], "n_embd": 192})
    assert model_config.n_inner is None
    assert mlp_width(model_config) == 768
    narrow, sinks = SinkConfig.partition(model_config)
    assert (narrow.n_inner, sinks.pool) == (538, 230)
    assert model_config.n_inner is None


@pytest.mark.parametrize("shared", [0, 1, 0.0, 1.0, -0.1, 1.1, math.nan])
def test_a_split_leaves_something_on_both_sides(shared):
    with pytest.raises(ConfigError, match="shared must be a fraction"):
        SinkConfig.partition(AutoConfig.for_model("llama", **CONFIGS["llama"]), shared=shared)


@pytest.mark.parametrize("shared", [0.01, 0.999])
def test_a_split_that_rounds_to_nothing_is_refused(shared):
    with pytest.raises(ConfigError):
        SinkConfig.partition(AutoConfig.for_model("llama", **CONFIGS["llama"]), shared=shared)


def test_a_split_needs_every_layer():
    with pytest.raises(ConfigError, match="every layer needs sinks; leave layers out"):
        SinkConfig.partition(AutoConfig.for_model("llama", **CONFIGS["llama"]), layers=(0, 1))


def test_layers_by_number():
    assert SinkConfig(pool=12, active=4).layer_numbers(3) == (0, 1, 2)
    chosen = SinkConfig(pool=12, active=4, layers=[0, 2])
    assert chosen.layer_numbers(3) == chosen.layers == (0, 2)
    with pytest.raises(ConfigError, match=r"layers=\[0, 2\]: this model has 2 decoder layers, numbered 0 to 1"):
        chosen.layer_numbers(2)


def test_a_split_of_an_unknown_family_is_refused():
    with pytest.raises(UnsupportedModelError, match="'phi'"):
        SinkConfig.partition(AutoConfig.for_model("phi"))
