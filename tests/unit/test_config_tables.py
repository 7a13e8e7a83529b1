"""Tables of names and numbers in run files and as options, and mixtures that contradict themselves."""

from pathlib import Path

import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st
from run_configs import PRINTABLE

from memsinks.config import read_config
from memsinks.errors import ConfigError
from memsinks.runs.config import ExposureConfig, RunConfig


@pytest.mark.parametrize(
    "text", ['weights = {"a b" = 1, "*" = 0.5, "" = 2}', '[exposures.weights]\n"a b" = 1\n"*" = 0.5\n"" = 2.0']
)
def test_tables_are_read_inline_and_as_sections(tmp_path, text):
    (tmp_path / "run.toml").write_text(text if text.startswith("[") else f"[exposures]\n{text}\nepochs = 3")
    config = read_config(RunConfig, tmp_path / "run.toml").exposures
    assert config.weights == {"a b": 1.0, "*": 0.5, "": 2.0}
    assert {type(number) for number in config.weights.values()} == {float}
    assert config.epochs == (1 if text.startswith("[") else 3)


@given(weights=st.dictionaries(PRINTABLE, st.floats(1e-6, 1e6), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_the_command_line_takes_tables_over_from_the_file_and_replaces_them(weights):
    default = RunConfig(exposures=ExposureConfig(weights=weights))
    assert tyro.cli(RunConfig, default=default, args=[]) == default
    given_ = [f"{name}={number!r}" for name, number in weights.items()]
    # A name that begins like an option would be taken for one.
    if not any(argument.startswith("-") for argument in given_):
        other = RunConfig(exposures=ExposureConfig(weights={"else": 1.0}))
        assert tyro.cli(RunConfig, default=other, args=["--exposures.weights", *given_]) == default
    assert tyro.cli(RunConfig, default=default, args=["--exposures.weights"]) == RunConfig()


@pytest.mark.parametrize("arguments", [["a"], ["a=x"], ["a=1", "a=2"]])
def test_options_that_are_no_table_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(RunConfig, args=["--exposures.weights", *arguments])
    assert "exposures.weights" in capsys.readouterr().err


MIXTURES = [
    ({"weights": {"a": -0.1}}, r"^exposures\.weights: the weight of 'a' is -0\.1; give a share"),
    ({"weights": {"a": float("nan")}}, r"^exposures\.weights: the weight of 'a' is nan"),
    ({"weights": {"": float("inf")}}, r"^exposures\.weights: the weight of '' \(without a source\) is inf"),
    ({"weights": {"a": 0.0, "b": 0.0}}, r"^exposures\.weights: the weights add up to 0; give at least one"),
    ({"upsample": {"a": 0.5}}, r"^exposures\.upsample: the factor of 'a' is 0\.5; give 1 or more"),
    ({"upsample": {"a": float("nan")}}, r"^exposures\.upsample: the factor of 'a' is nan"),
    ({"upsample_column": "x"}, r"^exposures\.upsample_column says what exposures\.upsample names"),
    ({"mixture_tokens": 5}, r"^exposures\.mixture_tokens is about exposures\.weights; give those too"),
    ({"mixture_epochs": 5.0}, r"^exposures\.mixture_epochs is about exposures\.weights"),
    ({"subsample": True}, r"^exposures\.subsample is about exposures\.weights"),
    ({"weights": {"a": 1.0}, "plan": Path("p")}, r"^exposures\.plan gives every count and exposures\.weights computes"),
    ({"weights": {"a": 1.0}, "mixture_tokens": 5, "mixture_epochs": 1.0}, r"both say how much is planned"),
    ({"weights": {"a": 1.0}, "mixture_epochs": 0.0}, r"^exposures\.mixture_epochs must be more than 0, not 0\.0"),
    (
        {"weights": {"a": 1.0}, "mixture_epochs": float("nan")},
        r"^exposures\.mixture_epochs must be more than 0, not nan",
    ),
    ({"weights": {"a": 1.0}, "mixture_tokens": 0}, r"^exposures\.mixture_tokens must be at least 1, not 0"),
    ({"weights": {"a": 1.0}, "upsample": {"a": 2.0}}, r"exposures\.weights both say how often 'a' is seen"),
    ({"cap": 0}, r"^exposures\.cap must be at least 1, not 0"),
    ({"cap_id": 0}, r"^exposures\.cap_id must be at least 1, not 0"),
    ({"epochs": 0}, r"^exposures\.epochs must be at least 1, not 0"),
]


@pytest.mark.parametrize(("keys", "message"), MIXTURES)
def test_mixtures_that_contradict_themselves_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        ExposureConfig(**keys)
    # A factor by column may meet a weight of the same name.
    ExposureConfig(weights={"a": 1.0}, upsample={"a": 2.0}, upsample_column="kind")
