"""What the settings of a run refuse, by which name, and what they let through."""

import math

import pytest

from memsinks.config import parse_config
from memsinks.errors import ConfigError
from memsinks.runs.config import RunConfig


def parse(settings: dict) -> RunConfig:
    """From ``{"section.key": value}``."""
    content: dict = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (content.setdefault(section, {}) if section else content)[name] = value
    return parse_config(RunConfig, content)


RANGES = {
    "seed": ([0, 2**63 - 1], [-1, 2**63]),
    "stream.max_length": ([3], [2, 0, -1]),
    "stream.window": ([1], [0]),
    "stream.workers": ([0], [-1]),
    **{
        f"optimizer.{k}": ([1e-12, 1, 1e6], [0, -1.0, math.nan, math.inf])
        for k in ("learning_rate", "eps", "sink_lr_multiplier")
    },
    **{
        f"optimizer.{k}": ([0, 0.5], [-1e-9, math.nan, math.inf])
        for k in ("weight_decay", "max_grad_norm", "sink_weight_decay")
    },
    **{f"optimizer.{k}": ([0, 0.999], [1, 1.5, -0.1, math.nan]) for k in ("beta1", "beta2")},
    "schedule.batch_size": ([1], [0, -4]),
    "schedule.micro_batch_size": ([1, 16], [0, 17]),
    "schedule.steps": ([1], [0, -1]),
    "schedule.warmup_steps": ([0], [-1]),
    "schedule.min_lr_ratio": ([0, 1], [-0.1, 1.1, math.nan]),
    "checkpoints.every_steps": ([0, 1], [-1]),
    "checkpoints.keep": ([1], [0]),
    "logging.every_steps": ([1], [0]),
    "logging.evaluate_every": ([0], [-1]),
    "logging.evaluate_documents": ([1], [0]),
    "exposures.times": ([1], [0]),
    "exposures.cap": ([1], [0]),
    **{f"exposures.{k}": ([0, 1], [-0.1, 1.1, math.nan]) for k in ("placebo_share", "id_noise")},
    "exposures.shared_budget": ([0, 7], [-1]),
    "exposures.goldfish": ([0, 2], [-1, 1]),
    "exposures.goldfish_context": ([1], [0]),
    **{f"model.{k}": ([4], [0, -1]) for k in ("hidden", "layers", "heads", "width")},
    "sinks.pool": ([1, 0.01, 8.0], [0, -3, 0.0, -0.5, math.nan, math.inf]),
    "sinks.active": ([1, 0.01, 1.0], [0, -3, 0.0, 1.5, math.nan]),
    "sinks.shared": ([0.01, 0.99], [0, 1, 1.5, -0.7, math.nan]),
    "sinks.grow": ([0], [-1]),
    "sinks.block": ([1], [0]),
}
GOOD = [(key, value) for key, (good, _) in RANGES.items() for value in good]
BAD = [(key, value) for key, (_, bad) in RANGES.items() for value in bad]


@pytest.mark.parametrize(("key", "value"), GOOD)
def test_the_ends_of_a_range_belong_to_it(key, value):
    parse({key: value})


@pytest.mark.parametrize(("key", "value"), BAD)
def test_out_of_range_names_the_key_and_the_value(key, value):
    with pytest.raises(ConfigError) as caught:
        parse({key: value})
    message = str(caught.value)
    assert message.startswith((f"{key} ", f"{key}="))
    # An integer for a share is shown as the fraction that it stands for.
    assert f"{value}" in message


OWNERS = {"sinks.allocation": "hybrid", "sinks.owned": 8, "sinks.owners": ["a"]}
CONTRADICTIONS = [
    ({"parallel.strategy": "fsdp2", "parallel.sinks": "dense"}, ["parallel.sinks", "parallel.strategy"]),
    ({"sinks.shared": 0.7, "sinks.pool": 9}, ["sinks.shared", "sinks.pool"]),
    ({"sinks.shared": 0.7, "model.pretrained": "m"}, ["sinks.shared", "model.pretrained"]),
    ({"sinks.grow": 8}, ["sinks.grow", "model.pretrained"]),
    ({"model.pretrained": "m", "model.config": "c.json"}, ["model.pretrained", "model.config"]),
    ({"model.hidden": 30, "model.heads": 4}, ["model.hidden=30", "model.heads=4"]),
    ({"schedule.batch_size": 4, "schedule.micro_batch_size": 5}, ["micro_batch_size=5", "schedule.batch_size=4"]),
    ({"sinks.attach": False, "exposures.placebo_share": 0.1}, ["exposures.placebo_share", "sinks.attach"]),
    ({"sinks.attach": False, "exposures.shared_budget": 0}, ["exposures.shared_budget", "sinks.attach"]),
    ({"sinks.attach": False, "exposures.id_noise": 0.1}, ["exposures.id_noise", "sinks.attach"]),
    ({"stream.packed": True, "exposures.shared_budget": 3}, ["exposures.shared_budget", "stream.packed"]),
    ({"sinks.allocation": "disjoint", "exposures.id_noise": 0.1}, ["exposures.id_noise", "sinks.allocation"]),
    ({"sinks.allocation": "hybrid"}, ["sinks.allocation", "sinks.owned", "sinks.owners"]),
    ({**OWNERS, "sinks.owned": 0}, ["sinks.allocation", "sinks.owned"]),
    ({**OWNERS, "sinks.owners": []}, ["sinks.allocation", "sinks.owners"]),
    ({**OWNERS, "sinks.owned": -8}, ["sinks.owned"]),
    ({**OWNERS, "sinks.owned": math.inf}, ["sinks.owned"]),
    ({"sinks.owned": 8}, ["sinks.owned", "hybrid"]),
    ({"sinks.owners": ["a"]}, ["sinks.owners", "hybrid"]),
    ({"sinks.allocation": "disjoint", "sinks.owned": 8}, ["sinks.owned", "hybrid"]),
    ({"exposures.govern": "sources"}, ["exposures.govern='sources'", "exposures.govern_values"]),
    ({"exposures.govern": "column", "exposures.govern_column": "c"}, ["exposures.govern_values"]),
    ({"exposures.govern_values": ["a"]}, ["exposures.govern='repeated'", "exposures.govern_values"]),
    ({"exposures.govern": "column", "exposures.govern_values": ["a"]}, ["exposures.govern_column"]),
    (
        {"exposures.govern": "sources", "exposures.govern_values": ["a"], "exposures.govern_column": "c"},
        ["exposures.govern_column"],
    ),
]


@pytest.mark.parametrize(("settings", "words"), CONTRADICTIONS, ids=lambda x: ",".join(x))
def test_a_contradiction_names_its_keys(settings, words):
    with pytest.raises(ConfigError) as caught:
        parse(settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        OWNERS,
        {**OWNERS, "sinks.owned": 0.5},
        {"parallel.strategy": "ddp", "parallel.sinks": "dense"},
        {"parallel.strategy": "fsdp2"},
        {"sinks.shared": 0.7},
        {"sinks.shared": 0.7, "sinks.active": 0.3},
        {"sinks.grow": 8, "model.pretrained": "m"},
        {"schedule.batch_size": 4, "schedule.micro_batch_size": 4},
        {"exposures.placebo_share": 0.1},
        {"exposures.govern": "column", "exposures.govern_column": "c", "exposures.govern_values": ["true"]},
        {"exposures.govern": "sources", "exposures.govern_values": ["a"]},
        # A baseline may keep what its sister run says of sinks.
        {"sinks.attach": False, "sinks.shared": 0.7, "model.pretrained": "m"},
        # The shape of the small Llama does not matter where it is not built.
        {"model.hidden": 30, "model.heads": 4, "model.config": "c.json"},
    ],
    ids=lambda x: ",".join(x),
)
def test_what_fits_is_let_through(settings):
    config = parse(settings)
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        found = getattr(getattr(config, section), name)
        assert (list(found) if isinstance(found, tuple) else str(found)) == (
            value if isinstance(value, list) else str(value)
        )
