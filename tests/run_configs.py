"""Strategies for run configurations: every value that one may have, in combinations that are accepted."""

from pathlib import Path
from typing import Literal, get_args

from hypothesis import strategies as st

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
