"""Configurations in TOML: what is refused and in which words, and what survives being written and read."""

import tomllib
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from memsinks.config import (
    LATER,
    Numbers,
    Section,
    config_hash,
    config_toml,
    differences,
    flat_values,
    parse_config,
    read_config,
)
from memsinks.errors import ConfigError
from memsinks.runs.config import CorpusConfig, ExposureConfig, ModelConfig, RunConfig, SinksConfig
from memsinks.sinks.config import Allocation, Init, Kernel, Mask
from memsinks.training.config import (
    CheckpointConfig,
    LoggingConfig,
    OptimizerConfig,
    ParallelConfig,
    PrecisionConfig,
    ScheduleConfig,
    StreamConfig,
)


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
        ("[sinks]\nlayers = 'middle'", "sinks.layers must be a list or 'early' or 'late', not 'middle'"),
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


# Written and read again

PRINTABLE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12)
TEXTS = st.lists(PRINTABLE, max_size=3).map(tuple)
PATHS = PRINTABLE.map(Path)
COUNTS = st.integers(1, 2**40)
SHARES = st.floats(0, 1)
RATES = st.floats(1e-300, 1e300)
TABLES = st.dictionaries(PRINTABLE, st.floats(1e-6, 1e6), min_size=1, max_size=3)
SIZES = st.one_of(st.integers(1, 10**6), st.floats(1e-6, 1.0))


def optional(strategy):
    return st.none() | strategy


def choice(alias):
    return st.sampled_from(get_args(alias))


@st.composite
def schedules(draw):
    batch = draw(COUNTS)
    return ScheduleConfig(
        batch_size=batch,
        micro_batch_size=draw(optional(st.integers(1, batch))),
        steps=draw(optional(COUNTS)),
        warmup_steps=draw(st.integers(0, 2**40)),
        kind=draw(choice(Literal["cosine", "linear", "constant"])),
        min_lr_ratio=draw(SHARES),
    )


@st.composite
def sinks(draw):
    allocation = draw(choice(Allocation))
    hybrid = allocation == "hybrid"
    shared = draw(optional(st.floats(0.01, 0.99)))
    numbers = st.sets(st.integers(0, 99)).map(lambda found: tuple(sorted(found)))
    return SinksConfig(
        attach=draw(st.booleans()),
        pool=draw(optional(SIZES)) if shared is None else None,
        active=draw(optional(SIZES)),
        shared=shared,
        allocation=allocation,
        owned=draw(SIZES) if hybrid else 0,
        owners=draw(st.lists(PRINTABLE, min_size=1, max_size=3).map(tuple)) if hybrid else (),
        block=draw(COUNTS),
        init=draw(choice(Init)),
        kernel=draw(choice(Kernel)),
        layers=draw(numbers | st.sampled_from(["early", "late"])) if shared is None else (),
        mask=draw(choice(Mask)) if allocation != "disjoint" else "per_layer",
    )


@st.composite
def exposures(draw):
    govern = draw(st.sampled_from(["all", "repeated", "sources", "column"]))
    named = govern in ("sources", "column")
    weights = draw(TABLES | st.just({}))
    by = draw(st.sampled_from(["none", "tokens", "epochs"])) if weights else "none"
    upsample = draw(TABLES.map(lambda table: {k: 1 + v for k, v in table.items() if k not in weights}) | st.just({}))
    return ExposureConfig(
        plan=None if weights else draw(optional(PATHS)),
        weights=weights,
        mixture_tokens=draw(COUNTS) if by == "tokens" else None,
        mixture_epochs=draw(st.floats(1e-6, 1e6)) if by == "epochs" else None,
        subsample=bool(weights) and draw(st.booleans()),
        upsample=upsample,
        upsample_column=draw(optional(PRINTABLE)) if upsample else None,
        epochs=draw(COUNTS),
        cap_id=draw(optional(COUNTS)),
        repeat=draw(TEXTS),
        times=draw(COUNTS),
        cap=draw(optional(COUNTS)),
        govern=govern,
        govern_values=draw(st.lists(PRINTABLE, min_size=1, max_size=3).map(tuple)) if named else (),
        govern_column=draw(PRINTABLE) if govern == "column" else None,
    )


@st.composite
def models(draw):
    config = draw(optional(PATHS))
    heads = draw(st.integers(1, 64))
    return ModelConfig(
        config=config,
        hidden=heads * draw(st.integers(1, 64)),
        heads=heads,
        layers=draw(COUNTS),
        width=draw(COUNTS),
        attention=draw(PRINTABLE),
    )


RUNS = st.builds(
    RunConfig,
    seed=st.integers(0, 2**63 - 1),
    output=PATHS,
    stream=st.builds(StreamConfig, max_length=st.integers(3, 2**40), packed=st.booleans(), window=COUNTS),
    optimizer=st.builds(OptimizerConfig, learning_rate=RATES, eps=RATES, weight_decay=st.floats(0, 1e300)),
    schedule=schedules(),
    precision=st.builds(PrecisionConfig, bf16=optional(st.booleans()), compile=st.booleans()),
    parallel=st.builds(ParallelConfig, strategy=st.sampled_from(["auto", "ddp", "fsdp2"])),
    checkpoints=st.builds(CheckpointConfig, every_steps=optional(st.integers(0, 9)), keep=COUNTS),
    logging=st.builds(LoggingConfig, report_to=TEXTS, live=st.booleans(), evaluate_every=optional(st.integers(0, 9))),
    corpus=st.builds(CorpusConfig, path=PATHS, verify=st.booleans()),
    model=models(),
    sinks=sinks(),
    exposures=exposures(),
)


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


# Hash and differences


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
    assert config_hash(RunConfig()) == "081eb3bdb415705de5a7d5df8cb9484a006bb5c7cac63012f29841f51e731132"
    some = RunConfig(seed=3, exposures=ExposureConfig(repeat=("a",), cap=4, govern="all"))
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


# Tables of names and numbers


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
