"""``memsinks train``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from rich.console import Console

from memsinks.config import config_toml, read_config
from memsinks.corpus import manifest, storage
from memsinks.corpus.storage import Place
from memsinks.runs.build import Blueprint, plan_model, plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.estimate import Estimate, estimate_run
from memsinks.runs.estimate_table import render
from memsinks.runs.exposures import exposures_table, show
from memsinks.runs.run import execute
from memsinks.training.run import planned_steps, training_rows


@dataclass(frozen=True)
class Train:
    """Train a model with sinks on a prepared corpus, or go on with a run that was stopped.

    Run it again, the same way, after a stop or a kill: it goes on from the newest checkpoint. Start it with torchrun or
    accelerate launch to use several devices.
    """

    file: tyro.conf.Positional[Path | None] = None
    """TOML file of the run; options override its keys. Without it everything is an option or a default."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    print_config: bool = False
    """Print the run's whole configuration, with every key explained, and stop."""
    estimate: bool = False
    """Print the planned exposures, and parameters, FLOPs, memory and time that the run would take, and stop; the corpus
    need not be there yet."""
    devices: int = int(os.environ.get("WORLD_SIZE", 1))
    """With --estimate: processes that train together."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    """With --estimate: what they train on."""
    fresh: bool = False
    """Start over: forget the checkpoints of an earlier start."""
    card_sources: bool = False
    """Name the sources of text with sinks in the model card (README.md); without it the card has counts only."""

    def run(self) -> int:
        """Run the command; 1 if training was stopped before its end."""
        console = Console(highlight=False, soft_wrap=True)
        if self.print_config:
            console.print(config_toml(self.config), markup=False, end="")
            return 0
        if self.estimate:
            blueprint = plan_run(self.config) if _is_there(self.config.corpus.path) else None
            if blueprint is not None:
                show(exposures_table(self.config, blueprint.text))
            console.print(render(estimate(self.config, self.devices, self.device, blueprint)))
            return 0
        finished = execute(self.config, fresh=self.fresh, card_sources=self.card_sources)
        if int(os.environ.get("RANK", 0)) == 0:
            for line in finished.summary:
                console.print(line, markup=False)
        return 1 if finished.stopped else 0


def train_defaults(arguments: Sequence[str]) -> Train:
    """What ``memsinks train`` starts from before its options are read: the run file, if one is named first.

    Raises:
        ConfigError: the file cannot be read, or a key in it is wrong.
    """
    if len(arguments) > 1 and arguments[0] == "train" and not arguments[1].startswith("-"):
        file = Path(arguments[1])
        return Train(file=file, config=read_config(RunConfig, file))
    return Train()


def _is_there(corpus: Place) -> bool:
    """Whether there is a corpus, or on this machine anything in its place, of which opening it says what is wrong."""
    return storage.exists(corpus if isinstance(corpus, Path) else f"{corpus.rstrip('/')}/{manifest.NAME}")


def estimate(config: RunConfig, devices: int, device: str, blueprint: Blueprint | None) -> Estimate:
    """What a run would take; without a blueprint, for its steps (or one) at full rows that are all governed."""
    if blueprint is None:
        model_config, sinks = plan_model(config)
        tokens = (config.schedule.steps or 1) * config.schedule.batch_size * config.stream.max_length
        share, document = 1.0, None
    else:
        model_config, sinks, text = blueprint.model_config, blueprint.sinks, blueprint.text
        rows = training_rows(text, config)
        by_document = text.plan.counts * text.corpus.lengths
        once = int(by_document.sum())
        seen = planned_steps(len(rows), config) * config.schedule.batch_size / len(rows)
        tokens = round(once * len(rows.datasets) * min(1.0, seen))
        share = float(by_document[text.governed].sum() / once)
        document = float(np.average(text.corpus.lengths, weights=text.plan.counts))
    return estimate_run(
        config,
        model_config,
        sinks,
        devices=devices,
        device_type=device,
        planned_tokens=tokens,
        governed_share=share,
        document_tokens=document,
    )
