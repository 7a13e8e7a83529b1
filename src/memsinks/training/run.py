"""Train a model on a prepared corpus."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import ConcatDataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from memsinks.corpus import Corpus
from memsinks.errors import ConfigError
from memsinks.stream import Collator, ExposurePlan, build_stream
from memsinks.training.exposures import ExposureCounter
from memsinks.training.progress import RichProgress
from memsinks.training.trainer import SinkTrainer


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train.

    Attributes:
        batch_size: rows in a micro-batch.
        accumulation: micro-batches in an optimiser step.
        max_length: tokens in a row; longer documents are cut into chunks, none is lost.
        packed: several documents share a row; else each has one of its own.
        steps: optimiser steps; default once through the plan. More steps go through it again, in a new order.
        learning_rate: peak rate of shared weights.
        warmup_steps: linear warm-up; then a cosine down to ``min_lr_ratio`` of the peak.
        min_lr_ratio: see ``warmup_steps``.
        weight_decay: of shared matrices.
        beta2: AdamW's second decay rate.
        max_grad_norm: global clipping threshold; 0 switches clipping off.
        sink_lr_multiplier: sinks learn this many times as fast as shared weights.
        sink_weight_decay: decay of a sink in the steps that touch it.
        bf16: bfloat16 autocast; default where the processor multiplies it in hardware.
        seed: of the data order.
        save_steps: steps between checkpoints to resume from; default none are kept.
        report_to: as transformers' ``TrainingArguments``, for example ``("tensorboard",)``.
    """

    batch_size: int = 16
    accumulation: int = 1
    max_length: int = 256
    packed: bool = False
    steps: int | None = None
    learning_rate: float = 2e-3
    warmup_steps: int = 60
    min_lr_ratio: float = 0.1
    weight_decay: float = 0.1
    beta2: float = 0.95
    max_grad_norm: float = 1.0
    sink_lr_multiplier: float = 5.0
    sink_weight_decay: float = 0.0
    bf16: bool | None = None
    seed: int = 0
    save_steps: int | None = None
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation", "steps", "save_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.max_length < 2:
            raise ConfigError(f"max_length must be at least 2, not {self.max_length}")
        for name in ("learning_rate", "sink_lr_multiplier"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class TrainResult:
    """What a training run did.

    Attributes:
        steps: optimiser steps.
        tokens: tokens predicted.
        seconds: wall time of the training loop.
        skipped_steps: steps left out because a gradient was not finite.
        exposures: passes over text, by sequence ID.
        history: what Trainer logged: step, loss, learning rate, gradient norm.
    """

    steps: int
    tokens: int
    seconds: float
    skipped_steps: int
    exposures: ExposureCounter
    history: list[dict[str, float]]


def train(
    model: nn.Module,
    corpus: Corpus,
    plan: ExposurePlan,
    config: TrainConfig,
    directory: Path,
    *,
    governed: np.ndarray,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    description: str = "training",
    progress: bool = True,
) -> TrainResult:
    """Train ``model`` in place.

    Args:
        model: with sinks, or without (a baseline).
        corpus: the text.
        plan: how often each document is exposed.
        config: settings.
        directory: for the checkpoints to resume from, if ``config.save_steps`` is set; it holds what Trainer writes and
            is not for delivery.
        governed: ``bool [documents]``, true for documents that train with their sinks.
        resume: go on from the last checkpoint in ``directory``.
        callbacks: further Trainer callbacks.
        description: in front of the progress bar.
        progress: show a progress bar.

    Raises:
        ConfigError: there is nothing to resume from.
    """
    rows = training_rows(corpus, plan, config, governed)
    steps = config.steps or -(-len(rows) // (config.batch_size * config.accumulation))
    checkpoint = _checkpoint(directory) if resume else None
    existed = directory.exists()
    trainer = SinkTrainer(
        model,
        _arguments(config, steps, directory),
        train_dataset=rows,
        data_collator=Collator(
            _pad_id(corpus), with_exposures=True, pad_to_multiple_of=math.gcd(config.max_length, 16)
        ),
        sink_lr_multiplier=config.sink_lr_multiplier,
        sink_weight_decay=config.sink_weight_decay,
        callbacks=[*callbacks, *([RichProgress(description)] if progress else [])],
    )
    trainer.remove_callback(PrinterCallback)
    started = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        if config.save_steps is None and not existed:
            shutil.rmtree(directory, ignore_errors=True)
    for wrapper in ("forward", "_original_forward"):
        # accelerate leaves its autocast around the model's forward; measurements choose their own precision.
        vars(model).pop(wrapper, None)
    optimizer = trainer._sink_optimizer()
    assert optimizer is not None
    model.eval()
    return TrainResult(
        steps=trainer.state.global_step,
        tokens=trainer.exposures.tokens,
        seconds=time.perf_counter() - started,
        skipped_steps=optimizer.skipped_steps,
        exposures=trainer.exposures,
        history=trainer.state.log_history,
    )


def training_rows(corpus: Corpus, plan: ExposurePlan, config: TrainConfig, governed: np.ndarray) -> ConcatDataset[Any]:
    """The rows of a run, in order: one pass over the plan, or as many as ``config.steps`` needs, each reordered."""

    def one_pass(number: int) -> Any:
        return build_stream(
            corpus,
            plan,
            seed=config.seed + number,
            max_length=config.max_length,
            packed=config.packed,
            governed=governed,
        )

    passes = [one_pass(0)]
    full_steps = (config.steps or 1) - 1
    # The last step takes what is left of a pass: filling it up from a further pass would add exposures to the plan.
    while sum(map(len, passes)) <= full_steps * config.batch_size * config.accumulation:
        passes.append(one_pass(len(passes)))
    return ConcatDataset(passes)


def bf16_pays() -> bool:
    """Whether this machine multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _pad_id(corpus: Corpus) -> int:
    """Any token serves as padding: it is neither predicted nor seen by what comes before it, and gets no sinks."""
    tokenizer = corpus.tokenizer
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _arguments(config: TrainConfig, steps: int, directory: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        max_steps=steps,
        learning_rate=config.learning_rate,
        warmup_steps=min(config.warmup_steps, steps),
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": config.min_lr_ratio},
        weight_decay=config.weight_decay,
        adam_beta2=config.beta2,
        max_grad_norm=config.max_grad_norm,
        bf16=bf16_pays() if config.bf16 is None else config.bf16,
        seed=config.seed % 2**32,
        logging_steps=10,
        save_strategy="no" if config.save_steps is None else "steps",
        save_steps=config.save_steps or steps,
        save_total_limit=2,
        report_to=list(config.report_to) or "none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _checkpoint(directory: Path) -> str:
    found = get_last_checkpoint(str(directory)) if directory.is_dir() else None
    if found is None:
        raise ConfigError(f"there is no checkpoint to resume from in {directory}; train without resume first")
    return found
