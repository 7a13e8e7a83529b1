"""``memsinks train``."""

import json
import platform
import shutil
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM

from memsinks.checkpoint.run import save, staged
from memsinks.corpus import Corpus
from memsinks.errors import ConfigError, InputError
from memsinks.sinks.attach import SinkModel, attach
from memsinks.sinks.config import SinkConfig
from memsinks.stream import ExposurePlan, GovernedPolicy, governed
from memsinks.training.exposures import EXPOSURES
from memsinks.training.model import small_llama
from memsinks.training.run import TrainConfig, train


@dataclass(frozen=True)
class Train:
    """Train a model with sinks on a prepared corpus."""

    corpus: tyro.conf.Positional[Path]
    """A folder that `memsinks prepare` wrote."""
    output: tyro.conf.Positional[Path]
    """Where the model goes; checkpoints to resume from go to <output>-checkpoints."""
    model: str | None = None
    """Folder or name of a pretrained model to continue from."""
    model_config: Path | None = None
    """config.json of a transformers model to train from scratch; default: a small Llama of the shape below."""
    hidden: int = 256
    """Hidden size of the default model."""
    layers: int = 4
    """Layers of the default model."""
    heads: int = 4
    """Attention heads of the default model."""
    width: int = 688
    """MLP width of the default model."""
    sinks: bool = True
    """Attach sinks; without them this trains a baseline."""
    pool: int | float = 3000
    """Sinks in each layer: a count, or a fraction of the MLP's width."""
    active: int | float = 300
    """Sinks that one sequence ID switches on: a count, or a fraction of the pool."""
    shared: float | None = None
    """The paper's split instead of --pool: this fraction of the MLP's width stays shared, the rest is the pool."""
    govern: Literal["all", "repeated", "sources", "column"] = "repeated"
    """Which documents train with their sinks; all others train with sinks off."""
    govern_values: tuple[str, ...] = ()
    """The sources, or the values of --govern-column."""
    govern_column: str | None = None
    """Metadata column that says which documents are governed."""
    plan: Path | None = None
    """Parquet file with columns document and exposures; default: every training document once."""
    repeat: tuple[str, ...] = ()
    """Names of documents to repeat."""
    times: int = 64
    """Exposures of each document of --repeat."""
    resume: bool = False
    """Go on from the last checkpoint; needs a run with --save-steps."""
    settings: TrainConfig = field(default_factory=TrainConfig)

    def run(self) -> None:
        """Run the command."""
        if self.output.exists() and any(self.output.iterdir()):
            raise InputError(f"{self.output} exists and is not empty; choose another folder or move it away")
        corpus = Corpus.open(self.corpus)
        plan = ExposurePlan.once(corpus) if self.plan is None else ExposurePlan.load(self.plan, corpus)
        if self.repeat:
            plan = plan.repeat(self.repeat, self.times)
        policy = GovernedPolicy(self.govern, self.govern_values, self.govern_column)
        chosen = governed(corpus, plan, policy)
        model = self._model(corpus)
        self._check_space(model)
        result = train(
            model,
            corpus,
            plan,
            self.settings,
            self.output.with_name(self.output.name + "-checkpoints"),
            governed=chosen,
            resume=self.resume,
        )
        record = {
            "format": "memsinks-run",
            "format_version": 1,
            "corpus": corpus.hash,
            "settings": asdict(self.settings),
            "governed": asdict(policy) | {"documents": int(chosen.sum())},
            "planned_exposures": plan.total,
            "steps": result.steps,
            "tokens": result.tokens,
            "seconds": round(result.seconds, 1),
            "skipped_steps": result.skipped_steps,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("memsinks", "torch", "transformers")},
            },
        }
        with staged(self.output) as staging:
            if isinstance(model, SinkModel):
                save(model, staging, tokenizer=corpus.tokenizer)
            else:
                model.save_pretrained(staging)
                corpus.tokenizer.save_pretrained(staging)
            result.exposures.save(staging)
            (staging / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in result.history))
            (staging / "run.json").write_text(json.dumps(record, indent=2) + "\n")
        console = Console()
        console.print(f"{result.steps} steps over {result.tokens:,} tokens in {result.seconds:.0f} s", highlight=False)
        console.print(
            f"{self.output}: the model (plain loaders read it with sinks off), {EXPOSURES}, run.json, log.jsonl"
        )

    def _check_space(self, model: Any) -> None:
        """Refuse before training what would fail after it."""
        needed = sum(p.numel() * p.element_size() for p in model.parameters())
        folder = self.output.absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < 2 * needed:
            raise InputError(
                f"{self.output}: the model takes about {needed / 1e6:,.0f} MB, twice that while it is written, and "
                f"{free / 1e6:,.0f} MB are free; make room or choose another disk"
            )

    def _model(self, corpus: Corpus) -> Any:
        if self.model is not None and self.model_config is not None:
            raise ConfigError("--model continues a pretrained model and --model-config starts a new one; give one")
        torch.manual_seed(self.settings.seed)
        sinks = SinkConfig(pool=self.pool, active=self.active, seed=self.settings.seed) if self.sinks else None
        if self.model is not None:
            if self.shared is not None:
                raise ConfigError("--shared splits a new model's MLP; use --pool to add sinks to a pretrained model")
            try:
                model = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
            except (OSError, ValueError) as error:
                raise InputError(f"--model: cannot load {self.model!r}: {str(error).splitlines()[0]}") from error
        else:
            config = self._new_config(corpus)
            if self.sinks and self.shared is not None:
                ratio = self.active if isinstance(self.active, float) else 0.3
                config, sinks = SinkConfig.partition(config, shared=self.shared, active=ratio, seed=self.settings.seed)
            model = AutoModelForCausalLM.from_config(config)
        if model.config.vocab_size < len(corpus.tokenizer):
            raise ConfigError(
                f"the model knows {model.config.vocab_size} tokens but the corpus uses {len(corpus.tokenizer)}; "
                "prepare the corpus with the model's own tokenizer (--tokenizer)"
            )
        return model if sinks is None else attach(model, sinks)

    def _new_config(self, corpus: Corpus) -> Any:
        if self.model_config is not None:
            try:
                return AutoConfig.from_pretrained(self.model_config)
            except (OSError, ValueError, KeyError) as error:
                raise InputError(f"--model-config: cannot read {self.model_config}: {error}") from error
        return small_llama(
            corpus.tokenizer,
            hidden=self.hidden,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            max_length=self.settings.max_length,
        )
