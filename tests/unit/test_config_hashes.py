"""What changes the hash of a configuration, and what is named as a difference."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from run_configs import RUNS

from memsinks.config import LATER, Numbers, Section, config_hash, differences, flat_values, read_config
from memsinks.runs.config import ExposureConfig, RunConfig, SinksConfig
from memsinks.training.config import OptimizerConfig


def changed(value: object) -> object:
    """Another value of the same kind that is as good as any."""
    match value:
        case bool():
            return not value
        case float():
            return value / 2 or 0.5
        case int():
            return value + 4
        case tuple():
            return (*value, "wandb")
        case dict():
            return {**value, "a": 4.0}
        case Path():
            return value / "else"
        case str():
            return {"cosine": "linear", "auto": "ddp", "gathered": "dense", "fresh": "consistent", "all": "mlp"}.get(
                value, value + "x"
            )
        case _:
            return None


def with_value(config, key: str, value: object):
    section, _, name = key.rpartition(".")
    if not section:
        return replace(config, **{name: value})
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


COUPLED = {
    "exposures.govern_values", "exposures.govern_column", "sinks.owned", "sinks.owners", "sinks.allocation",
    "sinks.grow", "exposures.mixture_tokens", "exposures.mixture_epochs", "exposures.subsample",
    "exposures.upsample_column",
}  # fmt: skip
"""Keys that cannot be changed alone."""
VALUES = {
    "schedule.micro_batch_size": 3, "schedule.steps": 9, "precision.bf16": True, "checkpoints.every_steps": 3,
    "logging.evaluate_every": 5, "exposures.plan": Path("p"), "exposures.cap": 4, "exposures.cap_id": 4,
    "model.config": Path("c"),
    "model.pretrained": "m", "sinks.pool": 5, "sinks.active": 0.5, "sinks.shared": 0.5, "sinks.init": "noop",
    "parallel.sinks": "dense", "sinks.attach": False, "sinks.layers": "late", "sinks.mask": "shared",
    "exposures.govern": "all", "exposures.shared_budget": 4, "corpus.ids": "source",
}  # fmt: skip


@pytest.mark.parametrize("key", [k for k, _ in flat_values(RunConfig()) if k not in COUPLED])
def test_a_changed_value_is_named_and_changes_the_hash(key):
    before = RunConfig()
    value = VALUES.get(key, changed(dict(flat_values(before))[key]))
    after = with_value(before, key, value)
    assert after != before
    assert differences(before, after) == differences(after, before) == [key]
    assert config_hash(after) != config_hash(before)


@given(left=RUNS, right=RUNS)
@settings(deadline=None, max_examples=20)
def test_hashes_agree_exactly_where_nothing_differs(left, right):
    assert (config_hash(left) == config_hash(right)) == (differences(left, right) == [])
    assert differences(left, replace(left)) == []


def test_a_count_and_a_fraction_of_the_same_size_differ():
    """A pool of 1 is one sink; one of 1.0 is as wide as the MLP."""
    one, whole = (RunConfig(sinks=SinksConfig(pool=p)) for p in (1, 1.0))
    assert differences(one, whole) == ["sinks.pool"]
    assert config_hash(one) != config_hash(whole)


def test_spelling_a_number_otherwise_is_no_difference(tmp_path):
    texts = [
        "seed = 7\n[optimizer]\nlearning_rate = 1\n[sinks]\npool = 1_000\n",
        "# a note\n[sinks]\npool = 1000   # sinks\n[optimizer]\nlearning_rate = 1.0\n",
    ]
    configs = []
    for text, extra in zip(texts, ["", "seed = 0x7\n"], strict=True):
        (tmp_path / "run.toml").write_text(extra + text)
        configs.append(read_config(RunConfig, tmp_path / "run.toml"))
    assert config_hash(configs[0]) == config_hash(configs[1])
    # Also where Python was given an integer, which no file could tell it.
    made = RunConfig(seed=7, optimizer=OptimizerConfig(learning_rate=1), sinks=SinksConfig(pool=1000))
    assert config_hash(made) == config_hash(configs[0])
    assert differences(made, configs[0]) == []


def test_hashes_of_earlier_versions_still_hold():
    """A key that is new at its default changes nothing; what was made before it can be gone on with."""
    # What were defaults until they changed are values like others.
    former = {"sinks": SinksConfig(layers="all"), "optimizer": OptimizerConfig(sink_lr_multiplier=5.0)}
    assert config_hash(RunConfig(**former)) == "081eb3bdb415705de5a7d5df8cb9484a006bb5c7cac63012f29841f51e731132"
    some = RunConfig(**former, seed=3, exposures=ExposureConfig(repeat=("a",), cap=4, govern="all"))
    assert config_hash(some) == "b3633754b1b16fc90c9ccb7cdfc8186cc805a8536438ede0b259218ab1c64ced"


def test_a_later_key_is_hashed_where_it_is_used():
    @dataclass(frozen=True, kw_only=True)
    class Older(Section):
        """Older."""

        size: int = 1

    @dataclass(frozen=True, kw_only=True)
    class Newer(Older):
        """Newer."""

        table: Numbers = field(default_factory=dict, metadata=LATER)
        most: int | None = field(default=None, metadata=LATER)

    assert config_hash(Newer()) == config_hash(Older())
    used = [Newer(table={"a": 1.0}), Newer(table={"a": 2.0}), Newer(most=1), Newer(size=2), Newer()]
    assert len({config_hash(config) for config in used}) == len(used)
    # The order in which names are written is no difference.
    assert config_hash(Newer(table={"a": 1.0, "b": 2.0})) == config_hash(Newer(table={"b": 2, "a": 1}))
