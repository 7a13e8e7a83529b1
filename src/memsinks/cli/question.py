"""What ``memsinks plan`` and ``memsinks readiness`` ask about a run file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import tyro

from memsinks.cli.train import estimate
from memsinks.config import read_config
from memsinks.planning.governed import Unit
from memsinks.planning.plan import RemovalPlan, make_plan, plan_blueprint
from memsinks.planning.question import COLLATERAL, Question, Terms
from memsinks.runs.build import Blueprint
from memsinks.runs.config import CorpusConfig, ExposureConfig, ModelConfig, RunConfig, SinksConfig
from memsinks.training.config import ParallelConfig, PrecisionConfig, ScheduleConfig, StreamConfig


@dataclass(frozen=True, kw_only=True)
class RunQuestion:
    """A run file, keys of it that matter before training, and the deletion terms."""

    file: tyro.conf.Positional[Path | None] = None
    """TOML file of the run. Without it everything is an option or a default."""
    remove: tuple[int, ...] = ()
    """Numbers of IDs or sources that may be removed; default 1, 5 and 20, as far as others are left."""
    unit: Unit = "id"
    """What one request removes: a sequence ID, or all IDs of a source."""
    terms: Terms | None = None
    """Deletion terms: each (any ID or source may ask at any time), likely (those of --likely may, others hardly ever),
    or together (all leave at once). Default likely where --likely names somebody, else each."""
    likely: tuple[str, ...] = ()
    """Sources that are expected to ask; default those that own rows in the run file."""
    collateral: float = COLLATERAL
    """Fraction of its sinks that a survivor may lose."""
    max_pool: int | None = None
    """Most sinks in a layer that you would train; default those of the run file."""
    draws: int = 200
    """Random removals that are simulated."""
    devices: int = 1
    """Processes that train together, for the memory of one of them."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """What they train on."""
    seed: int = 0
    """Of the run: of the choice of sinks, and here of the simulation."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    sinks: SinksConfig = field(default_factory=SinksConfig)
    exposures: ExposureConfig = field(default_factory=ExposureConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def config(self) -> RunConfig:
        """The run, with the options in it."""
        base = RunConfig() if self.file is None else read_config(RunConfig, self.file)
        return replace(base, **{name: getattr(self, name) for name in _keys()})

    def planned(self, config: RunConfig) -> tuple[RemovalPlan, Blueprint]:
        """The plan of removals, and the run before its model is built."""
        question = Question(
            remove=self.remove,
            unit=self.unit,
            terms=self.terms or ("likely" if self.likely else "each"),
            likely=self.likely,
            collateral=self.collateral,
            max_pool=self.max_pool,
            draws=self.draws,
        )
        blueprint = plan_blueprint(config)
        like = estimate(blueprint.config, self.devices, self.device, blueprint)
        return make_plan(config, blueprint, like, question), blueprint


Asked = TypeVar("Asked", bound=RunQuestion)


def defaults(command: type[Asked], name: str, arguments: Sequence[str]) -> Asked:
    """What a command starts from before its options are read: the run file, if one is named first.

    Raises:
        ConfigError: the file cannot be read, or a key in it is wrong.
    """
    if len(arguments) > 1 and arguments[0] == name and not arguments[1].startswith("-"):
        file = Path(arguments[1])
        config = read_config(RunConfig, file)
        values: dict[str, Any] = {key: getattr(config, key) for key in _keys()}
        return command(file=file, **values)
    return command()


def _keys() -> list[str]:
    """Keys of the run file that matter here."""
    known = {f.name for f in fields(RunConfig)} - {"output"}
    return [f.name for f in fields(RunQuestion) if f.name in known]
