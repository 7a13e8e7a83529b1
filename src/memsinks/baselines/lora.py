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
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MemsinksError('LoRA needs peft: pip install "memsinks[experiments]"') from error
    torch.manual_seed(config.seed)
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # PEFT asks transformers for it by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        adapted = get_peft_model(model, lora)
    train(adapted, text, config, directory, stoppable=False)
    return adapted
