"""Run files: what is refused and in which words, and what is read."""

from dataclasses import fields
from pathlib import Path

import pytest

from memsinks.config import differences, read_config
from memsinks.errors import ConfigError
from memsinks.runs.config import RunConfig


def refusal(text: str, tmp_path: Path, cls=RunConfig) -> str:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(cls, file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


# Unknown keys


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[sinks]\npol = 3", "sinks.pol", ["sinks.pool"]),
        ("[optimizer]\nlearning_rat = 1.0", "optimizer.learning_rat", ["optimizer.learning_rate"]),
        ("[strem]\nwindow = 3", "strem", ["stream"]),
        ("seeed = 3", "seeed", ["seed"]),
        ("pool = 3", "pool", ["sinks.pool"]),
        ("learning_rte = 3.0", "learning_rte", ["optimizer.learning_rate"]),
        ("[stream]\nlearning_rate = 0.1", "stream.learning_rate", ["optimizer.learning_rate"]),
        ("[stream]\nbatch_sise = 4", "stream.batch_sise", ["schedule.batch_size"]),
        ("[schedule]\nseed = 4", "schedule.seed", ["seed"]),
        ("every_steps = 4", "every_steps", ["checkpoints.every_steps", "logging.every_steps"]),
        ("[sinks.pool]\ncount = 4", "sinks.pool", None),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(tmp_path, text, key, nearest):
    message = refusal(text, tmp_path)
    if nearest is None:  # a section in the place of a value
        assert message == "sinks.pool must be an integer or a number, not {'count': 4}"
    else:
        assert message == f"unknown key {key!r}; did you mean {' or '.join(map(repr, nearest))}?"


def test_a_key_like_no_other_comes_with_the_keys_of_its_section(tmp_path):
    assert refusal("[corpus]\nzzz = 3", tmp_path) == "unknown key 'corpus.zzz'; keys of corpus are path, verify, ids"
    top = refusal("zzz = 3", tmp_path)
    assert top.startswith("unknown key 'zzz'; top-level keys are seed, stream, ")
    assert set(top.rpartition(" are ")[2].split(", ")) == {f.name for f in fields(RunConfig)}


def test_all_unknown_keys_and_wrong_types_are_listed_once(tmp_path):
    message = refusal("seed = 'x'\n[sinks]\npol = 3\npool = 'y'\n[corpus]\nverify = 1", tmp_path)
    for part in ("sinks.pol'", "seed must", "sinks.pool must", "corpus.verify must"):
        assert message.count(part) == 1, part


# Values of a wrong type


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = '1'", "seed must be an integer, not '1'"),
        ("seed = true", "seed must be an integer, not True"),
        ("seed = 1.0", "seed must be an integer, not 1.0"),
        ("[schedule]\nsteps = 1.5", "schedule.steps must be an integer, not 1.5"),
        ("[schedule]\nsteps = false", "schedule.steps must be an integer, not False"),
        ("[optimizer]\neps = 'small'", "optimizer.eps must be a number, not 'small'"),
        ("[optimizer]\neps = true", "optimizer.eps must be a number, not True"),
        ("[sinks]\npool = 'x'", "sinks.pool must be an integer or a number, not 'x'"),
        ("[sinks]\npool = true", "sinks.pool must be an integer or a number, not True"),
        ("[sinks]\nattach = 1", "sinks.attach must be true or false, not 1"),
        ("[sinks]\nattach = 'yes'", "sinks.attach must be true or false, not 'yes'"),
        ("[sinks]\nkernel = 'fast'", "sinks.kernel must be 'gathered' or 'dense', not 'fast'"),
        (
            "[sinks]\nlayers = 'middle'",
            "sinks.layers must be a list or 'auto', 'all', 'early' or 'late', not 'middle'",
        ),
        ("[sinks]\nmask = 'none'", "sinks.mask must be 'per_layer' or 'shared', not 'none'"),
        ("[exposures]\nrepeat = ['a', 2]", "exposures.repeat[1] must be a string, not 2"),
        ("[exposures]\nrepeat = 'a'", "exposures.repeat must be a list, not 'a'"),
        ("[exposures]\nrepeat = [['a']]", "exposures.repeat[0] must be a string, not ['a']"),
        ("[exposures]\nplan = 3", "exposures.plan must be a string, not 3"),
        ("[exposures]\ngovern_column = 3", "exposures.govern_column must be a string, not 3"),
        ("[exposures]\nweights = 3", "exposures.weights must be a table of names and numbers, not 3"),
        ("[exposures]\nweights = ['a']", "exposures.weights must be a table of names and numbers, not ['a']"),
        ("[exposures.weights]\na = 'much'", "exposures.weights['a'] must be a number, not 'much'"),
        ("[exposures.upsample]\n'a.b' = true", "exposures.upsample['a.b'] must be a number, not True"),
        ("[exposures.weights]\na = {b = 1}", "exposures.weights['a'] must be a number, not {'b': 1}"),
        ("output = ['a']", "output must be a string, not ['a']"),
        ("output = 2026-01-01", "output must be a string, not {'date': '2026-01-01'}"),
        ("[exposures]\nrepeat = 2026-01-01", "exposures.repeat must be a list, not {'date': '2026-01-01'}"),
        ("sinks = 3", "sinks must be a section, not 3"),
    ],
)
def test_a_wrong_type_names_key_expectation_and_value(tmp_path, text, message):
    assert refusal(text, tmp_path) == message


def test_range_errors_name_the_file_too(tmp_path):
    assert refusal("[stream]\nmax_length = 2", tmp_path) == "stream.max_length must be at least 3, not 2"


@pytest.mark.parametrize(
    ("text", "expected"), [("3000", 3000), ("0.3", 0.3), ("4.0", 4.0), ("1", 1), ("1.0", 1.0), ("1e3", 1000.0)]
)
def test_counts_stay_counts_and_fractions_fractions(tmp_path, text, expected):
    (tmp_path / "run.toml").write_text(f"[sinks]\npool = {text}")
    pool = read_config(RunConfig, tmp_path / "run.toml").sinks.pool
    assert (type(pool), pool) == (type(expected), expected)


def test_paths_tuples_and_numbers_are_parsed(tmp_path):
    (tmp_path / "run.toml").write_text(
        "output = 'a/b'\n[corpus]\npath = '/c'\n[exposures]\nplan = 'p.parquet'\nrepeat = ['x', 'y']\n"
        "[optimizer]\nlearning_rate = 1"
    )
    config = read_config(RunConfig, tmp_path / "run.toml")
    assert (config.output, config.corpus.path, config.exposures.plan) == (Path("a/b"), Path("/c"), Path("p.parquet"))
    assert config.exposures.repeat == ("x", "y")
    assert type(config.optimizer.learning_rate) is float
    assert differences(config, RunConfig()) == [
        "optimizer.learning_rate", "output", "corpus.path", "exposures.plan", "exposures.repeat",
    ]  # fmt: skip


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "run.toml").write_text("# nothing\n")
    assert read_config(RunConfig, tmp_path / "run.toml") == RunConfig()


@pytest.mark.parametrize("text", ["a = 1\nb = = 2", "[sinks]\n[sinks]", "x = 1\nx = 2\n"])
def test_broken_toml_names_file_and_line(tmp_path, text):
    message = refusal(text, tmp_path)
    assert message.startswith("not TOML: ")
    assert "line 2" in message


def test_unreadable_files(tmp_path):
    for name, content in (("nothing.toml", None), ("latin.toml", "output = 'é'".encode("latin-1"))):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{name}: cannot be read \(.+\)"):
            read_config(RunConfig, tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(RunConfig, tmp_path)
