"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685) through PEFT: the usual way to learn what can be dropped again."""

import warnings
from pathlib import Path
from typing import Any

import torch

from memsinks.errors import MemsinksError
from memsinks.training.config import TrainConfig
from memsinks.training.run import TrainText, train


def train_lora(model: Any, text: TrainText, config: TrainConfig, directory: Path, *, rank: int) -> Any:
    """Train one adapter on every linear layer of a frozen model.

    Its initial values follow from ``config.seed``. PEFT's ``unload()`` gives the model back as it was.

    Args:
        model: a plain causal language model; wrapped in place.
        text: what the adapter learns.
        config: settings of training; no checkpoint is kept.
        directory: for what training writes on its way.
        rank: of the adapter; its scale is 1.

    Returns:
        The PEFT model, in evaluation mode.

    Raises:
        MemsinksError: peft is not installed.
    """
    torch.manual_seed(config.seed)
    adapted = with_lora(model, rank=rank, alpha=rank)
    train(adapted, text, config, directory, stoppable=False)
    return adapted


def with_lora(model: Any, *, rank: int, alpha: int) -> Any:
    """Put an adapter on every linear layer of a model, in place, and freeze all else.

    Args:
        model: a causal language model, with sinks or without; sinks are frozen too.
        rank, alpha: the update has this rank and is scaled by ``alpha / rank``.

    Returns:
        The PEFT model around it.

    Raises:
        MemsinksError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MemsinksError('LoRA needs peft: pip install "memsinks[experiments]"') from error
    lora = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # PEFT asks transformers for it by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, lora)
