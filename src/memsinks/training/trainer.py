"""transformers' Trainer, with what sinks and exact resuming need and nothing else."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import DataLoader
from transformers import TrainerState, TrainingArguments

from memsinks.errors import CheckpointError, UnsupportedModelError
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.files import load_sinks
from memsinks.sinks.selection import mix
from memsinks.sinks.sharding import shard_sinks
from memsinks.stream.rows import IGNORED
from memsinks.training import checkpoints
from memsinks.training.batches import PaddingCollator, RankBatches, WaitingLoader, trailing
from memsinks.training.exposures import ExposureCounter
from memsinks.training.hub import PlainUploads, check_uploads
from memsinks.training.optimizer import Gradients, SinkAdamW, uses_sinks
from memsinks.training.ranks import on_first_rank, ranks, reduced
from memsinks.training.state import load_optimizer, load_weights, plain_weights, save_optimizer, whole_weights
from memsinks.training.updates import HeldBack, by_what_learns, held

PROGRESS = "progress.json"
_TORCH_WRITER = "inline_container"
"""Where torch.save raises, on a full disk, an error that has no class of its own."""


class SinkTrainer(PlainUploads):
    """Trainer whose steps leave idle sinks alone, and which resumes exactly, at any number of ranks.

    Differences to :class:`transformers.Trainer`:

    - the optimiser is :class:`SinkAdamW`, which also clips (torch's clipping refuses row-sparse gradients) and averages
      sinks over ranks; DDP and FSDP2 leave them alone, and under FSDP2 they are spread over ranks by rows;
    - rows are taken in the stream's own order, which is already shuffled, the next ``batch_size`` in each step whatever
      the number of ranks; none is repeated to come out even, and no batch column is dropped;
    - exposures are counted and stored with every checkpoint;
    - uploads to the Hub have the plain model alone, unless ``push_sinks`` is set;
    - a checkpoint appears whole or not at all, is the same whatever the number of ranks and the strategy, and resuming
      from it goes on at the next row of the stream, with the same logs.

    Args:
        batch_size: rows in an optimiser step over all ranks; default what ``args`` say. Micro-batches have
            ``args.per_device_train_batch_size`` rows, and as many are accumulated as the batch takes.
        sink_lr_multiplier: sinks learn this many times as fast as shared weights.
        sink_weight_decay: decay of touched rows.
        gradients: of the sinks, see :class:`SinkAdamW`.
        held_back: what does not learn from rows marked ``shared_frozen``, see :mod:`memsinks.training.updates`.
        row_lengths: tokens of each row of ``train_dataset``, so that rows of a step that are alike share a micro-batch.
        push_sinks: upload the sinks too wherever ``args`` and :meth:`push_to_hub` upload the model.
        args, kwargs: as :class:`transformers.Trainer` takes them.

    Raises:
        ConfigError: uploads are asked for that would hold sinks without ``push_sinks``, or an adapter.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        batch_size: int | None = None,
        sink_lr_multiplier: float = 1.0,
        sink_weight_decay: float = 0.0,
        gradients: Gradients | None = None,
        held_back: HeldBack = "all",
        row_lengths: np.ndarray | None = None,
        push_sinks: bool = False,
        **kwargs: Any,
    ) -> None:
        check_uploads(model, args, push_sinks=push_sinks)
        self.push_sinks = push_sinks
        micro = args.per_device_train_batch_size
        self.batch_size = batch_size or micro * args.gradient_accumulation_steps * args.world_size
        args.gradient_accumulation_steps = math.ceil(self.batch_size / (micro * args.world_size))
        args.remove_unused_columns = False
        args.accelerator_config.even_batches = False
        # The loader below starts where the checkpoint stopped.
        args.ignore_data_skip = True
        self.sink_lr_multiplier = sink_lr_multiplier
        self.sink_weight_decay = sink_weight_decay
        self.gradients = gradients
        self.held_back: HeldBack = held_back
        self.row_lengths = row_lengths
        self.exposures = ExposureCounter()
        self.slots = 0
        """Token slots of this rank's batches, padding included."""
        self.padding = 0
        """Those that held padding."""
        self.extra_logs: Callable[[dict[str, float], TrainerState], dict[str, float]] = lambda logs, state: {}
        """Further figures to log; called on all ranks with every log entry of Trainer's own."""
        self.facts: dict[str, Any] = {}
        """What else ``checkpoint.json`` should say."""
        self.companions: dict[str, str] = {}
        """Text files to write into every checkpoint, by name."""
        self.optimizer: Any
        self._loader: WaitingLoader | None = None
        self._batches: RankBatches | None = None
        self._staging: Path | None = None
        super().__init__(model, args, **kwargs)
        self._keep_sinks_from_wrappers()

    def _keep_sinks_from_wrappers(self) -> None:
        layers = list(sinks_of(self.model))
        if ranks() == 1 or not layers:
            return
        own = {id(p) for layer in layers for p in layer.parameters()}
        if self.is_fsdp_enabled:
            for layer in layers:
                # FSDP2 moves what it manages, and only that.
                layer.to(self.args.device)
            shard_sinks(layers)
            self.accelerator.state.fsdp_plugin.ignored_modules = layers
            if self.args.bf16:
                # Gradients are added up over ranks in full precision, as those of sinks are.
                self.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
                    param_dtype=torch.bfloat16, reduce_dtype=torch.float32
                )
        else:
            names = [name for name, p in self.model.named_parameters() if id(p) in own]
            nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, names)

    # Data

    def get_train_dataloader(self) -> DataLoader:
        """This rank's micro-batches in the stream's order."""
        self._batches = RankBatches(
            len(self.train_dataset),
            batch_size=self.batch_size,
            micro_batch_size=self.args.per_device_train_batch_size,
            rank=self.args.process_index,
            world=self.args.world_size,
            lengths=self.row_lengths,
        )
        workers = self.args.dataloader_num_workers
        self._loader = WaitingLoader(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=PaddingCollator(self.data_collator, self.train_dataset),
            num_workers=workers,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
            # A loader without one draws its seed from the global generator, once more in a resumed run.
            generator=torch.Generator(),
        )
        return self._loader

    @property
    def waiting_seconds(self) -> float:
        """Time that training waited for the loader."""
        return 0.0 if self._loader is None else self._loader.waiting_seconds

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        epochs_and_skipped = super()._init_training_state(*args, **kwargs)
        # Not how often the checkpoint's run saved and logged: that may differ now.
        self.state.compute_steps(self.args, self.state.max_steps)
        assert self._batches is not None
        done = self.state.global_step >= self.state.max_steps
        self._batches.start = self._batches.steps if done else self.state.global_step % self._batches.steps
        return epochs_and_skipped

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As Trainer's, with :attr:`extra_logs`; the epoch is that of a run without a break."""
        self._set_epoch()
        super().log(logs | self.extra_logs(logs, self.state), *args, **kwargs)

    def _set_epoch(self) -> None:
        if self._batches is not None:
            self.state.epoch = self.state.global_step / self._batches.steps

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; its ``exposed_ids`` are counted and kept from the model."""
        exposed = inputs.pop("exposed_ids", None)
        predicted = inputs["labels"] != IGNORED if "labels" in inputs else torch.zeros(0, 0, dtype=torch.bool)
        tokens, slots, padding = int(predicted.sum()), predicted.numel(), trailing(predicted)
        parts = by_what_learns(self.bare_model(), inputs, self.held_back)
        if len(parts) > 1 and not self.model_accepts_loss_kwargs:
            raise UnsupportedModelError(
                f"{type(self.bare_model()).__name__} cannot divide a loss by the tokens of a whole batch, which "
                "exposures.shared_budget needs"
            )
        losses = []
        for part, fixed in parts:
            with held(fixed):
                losses.append(super().training_step(model, part, *args, **kwargs))
        loss = torch.stack(losses).sum()
        if exposed is not None:
            self.exposures.update(exposed, tokens)
        self.slots += slots
        self.padding += padding
        return loss

    # Optimiser

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
                gradients=self.gradients,
            )
        return self.optimizer

    def _sink_optimizer(self) -> SinkAdamW | None:
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer if isinstance(optimizer, SinkAdamW) else None

    @property
    def skipped_steps(self) -> int:
        """Steps left out because the gradient norm was not finite."""
        optimizer = self._sink_optimizer()
        return 0 if optimizer is None else optimizer.skipped_steps

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        # The optimiser clips in its step; this only reports.
        optimizer = self._sink_optimizer()
        return super()._clip_grad_norm(model) if optimizer is None else optimizer.grad_norm()

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        optimizer = self._sink_optimizer()
        if optimizer is None:
            return super()._get_grad_norm(model, grad_norm)
        return float(optimizer.grad_norm() if grad_norm is None else grad_norm)

    # Saving

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the whole model, its sinks beside it, and the exposures; all ranks take part."""
        output_dir = output_dir or self.args.output_dir
        weights = whole_weights(self.bare_model(), keep=self.args.should_save)
        exposures = self.all_exposures()
        if self.args.should_save:
            self._save(output_dir, weights)
            exposures.save(Path(output_dir))
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def all_exposures(self) -> ExposureCounter:
        """Exposures over all ranks; all ranks take part."""
        return self.exposures if ranks() == 1 else self.exposures.summed()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._set_epoch()
        directory = Path(super()._get_output_dir(trial))
        staging = directory / checkpoints.STAGING
        on_first_rank(lambda: shutil.rmtree(staging, ignore_errors=True))
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
            on_first_rank(lambda: self._publish(staging, directory))
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _TORCH_WRITER not in str(error):
                raise
            if self.args.should_save:
                shutil.rmtree(staging, ignore_errors=True)
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(
                f"cannot write a checkpoint to {directory} ({reason}); earlier ones are untouched: "
                "make room, then run the same command again to go on from the newest"
            ) from error
        finally:
            self._staging = None
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(directory / f"{checkpoints.PREFIX}{self.state.global_step}"))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing yet: the checkpoint is uploaded once it has its name."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def _publish(self, staging: Path, directory: Path) -> None:
        written = staging / f"{checkpoints.PREFIX}{self.state.global_step}"
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == staging:
            self.state.best_model_checkpoint = best = str(directory / Path(best).name)
            self.state.save_to_json(str(written / "trainer_state.json"))
        for name, text in self.companions.items():
            (written / name).write_text(text)
        facts = {"step": self.state.global_step, "world_size": self.args.world_size, **self.facts}
        checkpoints.seal(written, facts)
        checkpoints.publish(written, directory / written.name)
        checkpoints.rotate(directory, self.args.save_total_limit or 10**9, None if best is None else Path(best))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        optimizer = self._sink_optimizer()
        if optimizer is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        folder, write = Path(output_dir), self.args.should_save
        save_optimizer(self.bare_model(), optimizer, self.lr_scheduler, folder, write=write)
        progress = {
            # The loss since the last log entry, so that the next one is what it would have been.
            "loss": float(reduced(self._tr_loss) / ranks()),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "slots": self.total(self.slots),
            "padding": self.total(self.padding),
        }
        if write:
            (folder / PROGRESS).write_text(json.dumps(progress))

    # Resuming

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target, directory = self.bare_model(), Path(resume_from_checkpoint)
        weights = plain_weights(directory)
        if uses_sinks(target):
            tensors, _ = load_sinks(directory)
            names = {module: name for name, module in target.named_modules()}
            for layer in sinks_of(target):
                prefix = f"layers.{layer.layer_index}."
                own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                weights |= {f"{names[layer]}.{key}": value for key, value in own.items()}
            target.sink_allocation = AllocationTable.from_tensors(tensors, target.sink_config)
        load_weights(target, weights)
        self.exposures = ExposureCounter()
        total = ExposureCounter()
        total.load(directory)
        if self.args.process_index == 0:
            self.exposures = total

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        optimizer = self._sink_optimizer()
        if optimizer is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            load_optimizer(self.bare_model(), optimizer, self.lr_scheduler, Path(checkpoint))
            if self.args.process_index == 0:
                progress = json.loads((Path(checkpoint) / PROGRESS).read_text())
                self.slots, self.padding = progress["slots"], progress["padding"]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        # Called after Trainer has set its counters to zero, and before the first step.
        if checkpoint is None:
            return
        if checkpoints.world_size(Path(checkpoint)) != self.args.world_size:
            # Random numbers of other ranks: none fit, but those of the start must not come again.
            torch.manual_seed(mix(mix(self.args.seed + mix(self.state.global_step)) + self.args.process_index) >> 1)
        if not (file := Path(checkpoint) / PROGRESS).is_file():
            return
        progress = json.loads(file.read_text())
        self._tr_loss += progress["loss"]
        self._total_loss_scalar = progress["total_loss"]
        self._globalstep_last_logged = progress["last_logged"]

    def _load_best_model(self) -> None:
        exposures = self.exposures
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        self.exposures = exposures

    # Ranks

    def bare_model(self) -> Any:
        """The model without what accelerate put around it."""
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def total(self, value: int) -> int:
        """The sum of a number over ranks; all ranks take part."""
        return int(reduced(torch.tensor(value, device=self.args.device)))
