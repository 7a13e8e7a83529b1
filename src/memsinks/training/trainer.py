"""transformers' Trainer, with what sinks need and nothing else."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments

from memsinks.checkpoint.run import fill_sinks
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.files import load_sinks
from memsinks.training.exposures import ExposureCounter
from memsinks.training.optimizer import SinkAdamW, uses_sinks


class SinkTrainer(Trainer):
    """Trainer whose steps leave idle sinks alone.

    Differences to :class:`transformers.Trainer`, each needed for sinks:

    - the optimiser is :class:`SinkAdamW`, which also clips (torch's clipping refuses row-sparse gradients);
    - rows are taken in the stream's own order, which is already shuffled;
    - exposures are counted and stored with every checkpoint;
    - resuming restores sinks and exposures beside the plain weights;
    - ranks never repeat samples to come out even (``even_batches`` is off), and no batch column is dropped.

    Args:
        sink_lr_multiplier: sinks learn this many times as fast as shared weights.
        sink_weight_decay: decay of touched rows.
        args, kwargs: as :class:`transformers.Trainer` takes them.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        sink_lr_multiplier: float = 1.0,
        sink_weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        args.remove_unused_columns = False
        args.accelerator_config.even_batches = False
        self.sink_lr_multiplier = sink_lr_multiplier
        self.sink_weight_decay = sink_weight_decay
        self.exposures = ExposureCounter()
        self.optimizer: Any
        super().__init__(model, args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """A :class:`SinkAdamW` from the training arguments, unless the caller passed an optimiser."""
        if self.optimizer is None:
            self.optimizer = SinkAdamW(
                self.model if model is None else model,
                self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
                sink_lr_multiplier=self.sink_lr_multiplier,
                sink_weight_decay=self.sink_weight_decay,
                max_grad_norm=self.args.max_grad_norm or None,
            )
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; its ``exposed_ids`` are counted and kept from the model."""
        exposed = inputs.pop("exposed_ids", None)
        tokens = int((inputs["labels"] != -100).sum()) if exposed is not None and "labels" in inputs else 0
        loss = super().training_step(model, inputs, *args, **kwargs)
        if exposed is not None:
            self.exposures.update(exposed, tokens)
        return loss

    def _sink_optimizer(self) -> SinkAdamW | None:
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer if isinstance(optimizer, SinkAdamW) else None

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        # The optimiser clips in its step; this only reports.
        optimizer = self._sink_optimizer()
        return super()._clip_grad_norm(model) if optimizer is None else optimizer.grad_norm()

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        optimizer = self._sink_optimizer()
        if optimizer is None:
            return super()._get_grad_norm(model, grad_norm)
        return float(optimizer.grad_norm() if grad_norm is None else grad_norm)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.exposures.save(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = self.model if model is None else model
        directory = Path(resume_from_checkpoint)
        if uses_sinks(target):
            tensors, _ = load_sinks(directory)
            fill_sinks(target, tensors, directory)
        self.exposures.load(directory)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if uses_sinks(self.model):
            directory = Path(self.state.best_model_checkpoint)
            fill_sinks(self.model, load_sinks(directory)[0], directory)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        own = {f"{name}." for name, module in self.model.named_modules() if module in set(sinks_of(self.model))}
        load_result.missing_keys[:] = [k for k in load_result.missing_keys if not k.startswith(tuple(own))]
        super()._issue_warnings_after_load(load_result)
