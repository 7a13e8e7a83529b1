"""Configurations survive being written and read, and every key is explained."""

import tomllib
from dataclasses import dataclass, field, is_dataclass

import pytest
from hypothesis import given, settings
from run_configs import RUNS

from memsinks.config import Section, config_hash, config_toml, differences, flat_values, parse_config, read_config
from memsinks.errors import ConfigError
from memsinks.runs.config import RunConfig


def unset(config: object) -> set[str]:
    return {key for key, value in flat_values(config) if value is None}


@given(config=RUNS)
@settings(deadline=None, max_examples=40)
def test_written_and_read_it_is_the_same(tmp_path_factory, config):
    file = tmp_path_factory.getbasetemp() / "round.toml"
    text = config_toml(config)
    file.write_text(text, encoding="utf-8")
    again = read_config(RunConfig, file)
    assert again == config
    assert differences(config, again) == []
    assert config_hash(again) == config_hash(config)
    assert config_toml(again) == text
    # Every key is there: with its value, or as a comment.
    keys, commented, section = set(), set(), ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif line.startswith("# ") and line.endswith(" ="):
            commented.add(section + line[2:-2])
    for key, value in tomllib.loads(text).items():
        keys |= {f"{key}.{k}" for k in value} if isinstance(value, dict) else {key}
    assert commented == unset(config)
    assert keys | commented == dict(flat_values(config)).keys()
    assert not keys & commented


def test_every_key_is_explained():
    """A comment of words stands above each key, in each section."""
    explained, lines = set(), config_toml(RunConfig()).splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        name = line.removeprefix("# ").partition(" =")[0]
        if above.startswith("# ") and not above.endswith("=") and " =" in line:
            explained.add(name)
    assert explained >= {key.rpartition(".")[2] for key, _ in flat_values(RunConfig())}


# Sections of one's own


@dataclass(frozen=True, kw_only=True)
class Inner(Section):
    """Inside.

    Attributes:
        left, right: of both.
        note: free ``text``.
    """

    left: int = 1
    right: int = 2
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outer(Section):
    """Outside.

    Attributes:
        name: of it.
    """

    inner: Inner = field(default_factory=Inner)
    name: str = "x"


def test_one_entry_may_describe_several_keys():
    assert config_toml(Outer()).splitlines() == [
        "# of it.", 'name = "x"', "", "[inner]", "# of both.", "left = 1", "# of both.", "right = 2", "# free text.",
        "# note =",
    ]  # fmt: skip


def test_only_keys_of_a_base_class_can_be_asked_for():
    @dataclass(frozen=True, kw_only=True)
    class More(Outer):
        """More."""

        extra: int = 3

    assert dict(flat_values(More(), Outer)) == {"inner.left": 1, "inner.right": 2, "inner.note": None, "name": "x"}
    assert "extra" in dict(flat_values(More()))


def test_mappings_are_parsed_like_files():
    assert parse_config(Outer, {"inner": {"right": 5}}) == Outer(inner=Inner(right=5))
    assert all(is_dataclass(part) for part in (Outer().inner, Outer()))
    with pytest.raises(ConfigError, match=r"^inner\.left must be an integer, not None$"):
        parse_config(Outer, {"inner": {"left": None}})
