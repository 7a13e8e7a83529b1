"""What learns in place of a model's own weights, beside its sinks if it has any.

An adapter is put on a model before training and merged into it afterwards, so that what is saved is a plain checkpoint
with its sinks, as of any other run (:func:`memsinks.runs.run.execute`).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from memsinks.errors import MemsinksError
from memsinks.sinks.attach import sinks_of
from memsinks.training.config import OptimizerConfig


class Adapter(Protocol):
    """What learns; its ``repr`` names it in the records of a run."""

    def put_on(self, model: Any) -> Callable[[], Any]:
        """Change the model in place, so that only the adapter and the sinks learn; returns what merges it again."""

    def optimizer(self, model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer | None:
        """The optimiser of an adapted model, or None for :class:`~memsinks.training.optimizer.SinkAdamW`."""


@dataclass(frozen=True)
class Frozen:
    """Nothing but the sinks learns."""

    def put_on(self, model: Any) -> Callable[[], Any]:
        """Freeze the model's own weights; there is nothing to merge."""
        model.requires_grad_(False)
        for sinks in sinks_of(model):
            sinks.requires_grad_(True)
        return lambda: model.requires_grad_(True)

    def optimizer(self, model: nn.Module, config: OptimizerConfig) -> None:
        """None: a row of sinks moves only in steps that select it."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA on every projection of the decoder layers (Hu et al. 2021, arXiv 2106.09685), by PEFT.

    Attributes:
        rank: of each update.
        alpha: the update is scaled by ``alpha / rank``.
        isolated: sinks beside the adapter learn row by row; else torch's AdamW trains both, whose momentum and weight
            decay reach idle rows too.
    """

    rank: int = 16
    alpha: int = 64
    isolated: bool = True

    def put_on(self, model: Any) -> Callable[[], Any]:
        """Add the adapter, and freeze everything else but the sinks.

        Raises:
            MemsinksError: PEFT is not installed.
        """
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise MemsinksError('LoRA needs peft: pip install "memsinks[experiments]"') from error
        lora = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            # PEFT asks transformers for it by its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            wrapped = get_peft_model(model, lora)
        for sinks in sinks_of(model):
            sinks.requires_grad_(True)
        return lambda: wrapped.merge_and_unload().requires_grad_(True)

    def optimizer(self, model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer | None:
        """None, or torch's AdamW over adapter and sinks, these at their own learning rate."""
        if self.isolated:
            return None
        rows = [p for sinks in sinks_of(model) for p in sinks.parameters()]
        own = {id(p) for p in rows}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        rate = config.learning_rate * config.sink_lr_multiplier
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": rows, "lr": rate}]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
        )
