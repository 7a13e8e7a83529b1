"""``memsinks plan``."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console

from memsinks.cli.train import estimate
from memsinks.config import read_config
from memsinks.corpus.files import check_output
from memsinks.planning.files import write_plan
from memsinks.planning.governed import Unit
from memsinks.planning.plan import make_plan, plan_blueprint
from memsinks.planning.question import COLLATERAL, Question, Terms
from memsinks.planning.tables import render
from memsinks.runs.config import CorpusConfig, ExposureConfig, ModelConfig, RunConfig, SinksConfig
from memsinks.training.config import ParallelConfig, PrecisionConfig, ScheduleConfig, StreamConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say before training what can be removed, what that takes from others, and what it costs.

    Takes the run file of `memsinks train`, and options that override those of its keys that matter here.
    """

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
    output: Path | None = None
    """Also write plan.json, plan.md and plan.png into this new folder."""
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

    def run(self) -> None:
        """Run the command."""
        question = Question(
            remove=self.remove,
            unit=self.unit,
            terms=self.terms or ("likely" if self.likely else "each"),
            likely=self.likely,
            collateral=self.collateral,
            max_pool=self.max_pool,
            draws=self.draws,
        )
        if self.output is not None:
            check_output(self.output)
        base = RunConfig() if self.file is None else read_config(RunConfig, self.file)
        config = replace(base, **{name: getattr(self, name) for name in _keys()})
        blueprint = plan_blueprint(config)
        plan = make_plan(config, blueprint, estimate(blueprint.config, self.devices, self.device, blueprint), question)
        Console(highlight=False).print(render(plan))
        if self.output is not None:
            write_plan(plan, self.output)
            Console(highlight=False, soft_wrap=True).print(f"{self.output}: plan.json, plan.md, plan.png", markup=False)


def plan_defaults(arguments: Sequence[str]) -> Plan:
    """What ``memsinks plan`` starts from before its options are read: the run file, if one is named first.

    Raises:
        ConfigError: the file cannot be read, or a key in it is wrong.
    """
    if len(arguments) > 1 and arguments[0] == "plan" and not arguments[1].startswith("-"):
        file = Path(arguments[1])
        config = read_config(RunConfig, file)
        values: dict[str, Any] = {name: getattr(config, name) for name in _keys()}
        return Plan(file=file, **values)
    return Plan()


def _keys() -> list[str]:
    """Keys of the run file that a plan depends on."""
    known = {f.name for f in fields(RunConfig)} - {"output"}
    return [f.name for f in fields(Plan) if f.name in known]
