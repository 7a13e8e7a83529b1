"""Train a model on a prepared corpus."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import ConcatDataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from memsinks.config import flat_values
from memsinks.corpus import Corpus
from memsinks.errors import ConfigError, InputError, WorkerError
from memsinks.stream import Collator, ExposurePlan, Treatment
from memsinks.stream.rows import Rows
from memsinks.training import checkpoints
from memsinks.training.batches import WORKER_DIED, tells_of_dead_worker
from memsinks.training.compilation import compiled_layers
from memsinks.training.config import TrainConfig
from memsinks.training.exposures import ExposureCounter
from memsinks.training.optimizer import uses_sinks
from memsinks.training.ranks import from_first, is_first
from memsinks.training.stopping import StopOnSignal, StopOnSkipped
from memsinks.training.trainer import SinkTrainer

PLAN = "plan.parquet"
"""The plan of exposures beside checkpoints and models; its hash is among :meth:`TrainText.facts`."""

FREE_TO_CHANGE = (
    "logging.", "checkpoints.", "parallel.", "precision.", "stream.workers", "schedule.micro_batch_size",
)  # fmt: skip
"""Settings that may differ between a checkpoint and the run that goes on from it: none decides which text is seen."""


@dataclass(frozen=True, kw_only=True)
class TrainText:
    """The text of a run.

    Attributes:
        corpus: the documents.
        plan: how often each is exposed.
        governed: ``bool [documents]``, true for documents that train with their sinks.
        treatment: what else happens to passes over them.
        refused: exposures that were planned of text removed from the pretrained model, and are left out.
    """

    corpus: Corpus
    plan: ExposurePlan
    governed: np.ndarray
    treatment: Treatment = field(default_factory=Treatment)
    refused: int = 0

    def facts(self) -> dict[str, Any]:
        """What names the text: hashes, and how its treatment departs from none, so that a new kind of treatment leaves
        the names of text without it as they were."""
        default = asdict(Treatment())
        return {
            "corpus": self.corpus.hash,
            **({} if self.corpus.ids is None else {"ids": self.corpus.ids}),
            "plan": self.plan.hash,
            "governed": hashlib.sha256(self.governed.tobytes()).hexdigest(),
            **{key: value for key, value in asdict(self.treatment).items() if value != default[key]},
        }


@dataclass(frozen=True)
class TrainResult:
    """What a training run did, over resumes.

    Attributes:
        steps: optimiser steps.
        tokens: tokens predicted.
        slots: token slots of all batches, padding included.
        padding: those that held padding.
        seconds: wall time of the training loop in this process.
        waiting_seconds: how much of it was spent waiting for the loader.
        skipped_steps: steps left out because a gradient was not finite.
        stopped: the run was asked to stop before its end.
        exposures: passes over text, by sequence ID.
        history: what Trainer logged: step, loss, learning rate, gradient norm.
        trainer: that trained, for saving.
    """

    steps: int
    tokens: int
    slots: int
    padding: int
    seconds: float
    waiting_seconds: float
    skipped_steps: int
    stopped: bool
    exposures: ExposureCounter
    history: list[dict[str, float]]
    trainer: SinkTrainer


def train(
    model: nn.Module,
    text: TrainText,
    config: TrainConfig,
    directory: Path,
    *,
    resume: bool = False,
    stoppable: bool = True,
    callbacks: Sequence[TrainerCallback] | Callable[[SinkTrainer], Sequence[TrainerCallback]] = (),
    say: Callable[[str], None] = lambda message: None,
    facts: Mapping[str, Any] | None = None,
    companions: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> TrainResult:
    """Train ``model`` in place; all ranks call it.

    Args:
        model: with sinks, or without (a baseline).
        text: what to train on.
        config: settings.
        directory: for checkpoints; they hold what Trainer writes and are not for delivery.
        resume: go on from the newest whole checkpoint in ``directory``.
        stoppable: on SIGTERM or Ctrl-C, write a checkpoint and return; else such a signal has its usual effect.
        callbacks: further Trainer callbacks, or a function that makes them for the trainer.
        say: told about the start, such as a damaged checkpoint that was passed over.
        facts: what else every checkpoint should note.
        companions: text files to write into every checkpoint, by name.
        settings: further ones, by key, that a run must share with the checkpoint that it goes on from.
        optimizer: of the model's weights, in place of :class:`~memsinks.training.optimizer.SinkAdamW`.

    Raises:
        ConfigError: there is nothing to resume from, the checkpoint is of a run with other text or settings, or a
            setting does not work with several processes.
        CheckpointError: a checkpoint could not be written; the ones before it are untouched.
        TrainingError: one gradient after the other is not finite.
        WorkerError: a process of the loader died.
    """
    if text.treatment.shared_budget is not None and _processes() > 1:
        # DDP and FSDP2 expect a gradient of every weight in every backward pass.
        raise ConfigError("exposures.shared_budget trains in one process; start it without torchrun")
    rows = training_rows(text, config)
    steps = planned_steps(len(rows), config)
    arguments = _arguments(config, steps, directory)
    identity = _identity(text, config, settings or {})
    checkpoint = _checkpoint(directory, identity, text, say) if resume else None
    stop = StopOnSignal()
    trainer = SinkTrainer(
        model,
        arguments,
        train_dataset=rows,
        data_collator=Collator(
            pad_id(text.corpus), with_exposures=True, pad_to_multiple_of=math.gcd(config.stream.max_length, 16)
        ),
        batch_size=config.schedule.batch_size,
        sink_lr_multiplier=config.optimizer.sink_lr_multiplier,
        sink_weight_decay=config.optimizer.sink_weight_decay,
        held_back=config.optimizer.held_back,
        # torch types a part of the whole as any dataset; these are Rows.
        row_lengths=np.concatenate([part.lengths for part in rows.datasets]),  # type: ignore[attr-defined]
        gradients="dense" if config.parallel.sinks == "dense" and uses_sinks(model) else None,
        optimizers=(optimizer, None),
    )
    trainer.facts = {**(facts or {}), **identity}
    trainer.companions = dict(companions or {})
    trainer.remove_callback(PrinterCallback)
    further = callbacks(trainer) if callable(callbacks) else callbacks
    for callback in [*further, *([stop] if stoppable else []), StopOnSkipped(lambda: trainer.skipped_steps)]:
        trainer.add_callback(callback)
    started = time.perf_counter()
    try:
        with compiled_layers(model) if config.precision.compile else nullcontext():
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except RuntimeError as error:
        if not tells_of_dead_worker(error):
            raise
        raise WorkerError(WORKER_DIED) from error
    finally:
        stop.release()
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    seconds = time.perf_counter() - started
    for wrapper in ("forward", "_original_forward"):
        # accelerate leaves its autocast around the model's forward; measurements choose their own precision.
        vars(model).pop(wrapper, None)
    model.eval()
    exposures = trainer.all_exposures()
    return TrainResult(
        steps=trainer.state.global_step,
        tokens=exposures.tokens,
        slots=trainer.total(trainer.slots),
        padding=trainer.total(trainer.padding),
        seconds=seconds,
        waiting_seconds=trainer.waiting_seconds,
        skipped_steps=trainer.skipped_steps,
        stopped=stop.stopped,
        exposures=exposures,
        history=trainer.state.log_history,
        trainer=trainer,
    )


def training_rows(text: TrainText, config: TrainConfig) -> ConcatDataset[Any]:
    """The :class:`Rows` of a run, in order: one pass over the plan, or as many as the steps need, each reordered."""

    def one_pass(number: int) -> Any:
        return Rows(
            text.corpus,
            text.plan,
            seed=config.seed + number,
            max_length=config.stream.max_length,
            packed=config.stream.packed,
            governed=text.governed,
            window=config.stream.window,
            treatment=text.treatment,
            passes_before=number,
        )

    passes = [one_pass(0)]
    full_steps = (config.schedule.steps or 1) - 1
    # The last step takes what is left of a pass: filling it up from a further pass would add exposures to the plan.
    while sum(map(len, passes)) <= full_steps * config.schedule.batch_size:
        passes.append(one_pass(len(passes)))
    return ConcatDataset(passes)


def planned_steps(rows: int, config: TrainConfig) -> int:
    """Optimiser steps of a run over so many rows."""
    return config.schedule.steps or math.ceil(rows / config.schedule.batch_size)


def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pad_id(corpus: Corpus) -> int:
    """Any token serves as padding: it is neither predicted nor seen by what comes before it, and gets no sinks."""
    tokenizer = corpus.tokenizer
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _arguments(config: TrainConfig, steps: int, directory: Path) -> TrainingArguments:
    schedule, optimizer, precision = config.schedule, config.optimizer, config.precision
    every = config.checkpoints.every_steps
    every = max(1, steps // 10) if every is None else every
    warmup = min(schedule.warmup_steps, steps)
    kind, options = {
        "cosine": ("cosine_with_min_lr", {"min_lr_rate": schedule.min_lr_ratio}),
        "linear": (
            "warmup_stable_decay",
            {
                "num_stable_steps": 0,
                "num_decay_steps": steps - warmup,
                "decay_type": "linear",
                "min_lr_ratio": schedule.min_lr_ratio,
            },
        ),
        "constant": ("constant_with_warmup", {}),
    }[schedule.kind]
    cuda = torch.cuda.is_available()
    # One process has nothing to share; the same file serves a laptop and a cluster.
    sharded = config.parallel.strategy == "fsdp2" and _processes() > 1
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=steps,
        learning_rate=optimizer.learning_rate,
        warmup_steps=warmup,
        lr_scheduler_type=kind,
        lr_scheduler_kwargs=options,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_epsilon=optimizer.eps,
        max_grad_norm=optimizer.max_grad_norm,
        bf16=bf16_pays() if precision.bf16 is None else precision.bf16,
        activation_checkpointing=precision.gradient_checkpointing,
        seed=config.seed % 2**32,
        logging_steps=config.logging.every_steps,
        save_strategy="steps" if every else "no",
        save_steps=every or steps,
        save_total_limit=config.checkpoints.keep,
        report_to=list(config.logging.report_to) or "none",
        project="memsinks",
        run_name=directory.name,
        disable_tqdm=True,
        use_cpu=not cuda,
        dataloader_num_workers=config.stream.workers,
        dataloader_pin_memory=cuda,
        fsdp=sharded or None,
        fsdp_config={"version": 2} if sharded else None,
        # All weights that DDP averages take part in every step; looking for others costs a pass over the graph.
        ddp_find_unused_parameters=False,
    )
    micro = schedule.micro_batch_size or math.ceil(schedule.batch_size / arguments.world_size)
    arguments.per_device_train_batch_size = micro
    return arguments


def _processes() -> int:
    """How many were started together; torch.distributed may not have begun yet."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _identity(text: TrainText, config: TrainConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint and the run that goes on from it must share."""
    # Of config only what TrainConfig itself has: what else a run has is for its caller to name.
    own = {key: value for key, value in flat_values(config, TrainConfig) if not key.startswith(FREE_TO_CHANGE)}
    # As JSON gives them back: tuples are lists there.
    return {"settings": json.loads(json.dumps({**own, **settings}, default=str)), "text": text.facts()}


def _checkpoint(directory: Path, identity: dict[str, Any], text: TrainText, say: Callable[[str], None]) -> Path:
    found: Any = None
    if is_first():
        folder, problems = checkpoints.newest(directory)
        found = folder, problems, None if folder is None else checkpoints.verify(folder)
    folder, problems, content = from_first(found)
    for problem in problems:
        say(f"passed over a damaged checkpoint: {problem}")
    if folder is None:
        raise ConfigError(f"there is no whole checkpoint to resume from in {directory}; start afresh (--fresh)")
    for part, what in (("text", "text"), ("settings", "setting")):
        for key in dict.fromkeys([*identity[part], *content[part]]):
            value, before = identity[part].get(key), content[part].get(key)
            if before != value:
                if (part, key) == ("text", "plan"):
                    raise ConfigError(
                        f"{folder} is of a run with another text, plan{_change_of_plan(directory, text, before)}; "
                        "restore [exposures] and the seed, or start over (--fresh)"
                    )
                shown = f" ({before} there, {value} here)" if part == "settings" else ""
                raise ConfigError(
                    f"{folder} is of a run with another {what}, {key}{shown}; restore it, or start afresh in another "
                    "folder"
                )
    say(f"going on from {folder.name}")
    return folder


def _change_of_plan(directory: Path, text: TrainText, before: str) -> str:
    """How the plan departs from that of a checkpoint, whose hash is ``before``, if the folder still holds that one."""
    try:
        old = ExposurePlan.load(directory / PLAN, text.corpus)
    except InputError:
        return ""
    if old.hash != before:
        return ""
    changed = np.flatnonzero(old.counts != text.plan.counts)
    example = changed[0]
    more = f", and {len(changed) - 1:,} more documents differ" if len(changed) > 1 else ""
    return (
        f" (exposures of {text.corpus.documents[example]!r}: {old.counts[example]} there, "
        f"{text.plan.counts[example]} here{more})"
    )
