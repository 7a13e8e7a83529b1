"""Further training of a stock model with trl, supervised or on preferences; quiet, and without a network."""

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PrinterCallback

from memsinks.auditing.config_persistence import PersistenceConfig
from memsinks.auditing.quiet import quiet
from memsinks.corpus import Columns, read_documents
from memsinks.data import general_file
from memsinks.errors import ConfigError, InputError
from memsinks.training.run import bf16_pays

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUPERVISED, PREFERENCE = "supervised fine-tuning", "preference tuning"
METHODS = (SUPERVISED, PREFERENCE)
PER_DOCUMENT, CHARACTERS = 4, 16
"""Most passages of one document, and most characters that a token is taken to have."""


def unrelated(
    tokenizer: "PreTrainedTokenizerBase", count: int, length: int, *, without: Sequence[np.ndarray]
) -> list[list[int]]:
    """Passages of the general text that the package has with it, a few from the beginning of each document.

    Args:
        tokenizer: of the model.
        count: most passages.
        length: tokens of each.
        without: documents; general text that begins like one of them is left out.
    """
    half = length // 2
    # With the marker that training puts before a document, and without.
    beginnings = {tuple(tokens[start : start + half].tolist()) for tokens in without for start in (0, 1)}
    found: list[list[int]] = []
    for document in read_documents([general_file()], Columns(source="source")):
        beginning = document.text[: PER_DOCUMENT * length * CHARACTERS]
        tokens = tokenizer(beginning, add_special_tokens=False)["input_ids"][: PER_DOCUMENT * length]
        if tuple(tokens[:half]) in beginnings:
            continue
        for start in range(0, len(tokens) - length + 1, length):
            found.append(tokens[start : start + length])
            if len(found) == count:
                return found
    return found


def tuned(
    model: Any,
    method: str,
    passages: Sequence[list[int]],
    tokenizer: "PreTrainedTokenizerBase",
    config: PersistenceConfig,
    *,
    work: Path,
    seed: int,
) -> Any:
    """Train a model further.

    Args:
        model: a stock causal language model; it is changed.
        method: one of :data:`METHODS`. Preference tuning prefers how a passage goes on to the same words shuffled.
        passages: tokens of each.
        tokenizer: of the model.
        config: steps, rates and sizes.
        work: folder for whatever the library writes.
        seed: of order, shuffling and training.

    Returns:
        The same model, in evaluation mode.

    Raises:
        ConfigError: trl is not installed.
        InputError: there are no passages.
    """
    if find_spec("trl") is None:
        raise ConfigError("further training needs trl; install it: pip install 'memsinks[audit]'")
    if not passages:
        raise InputError(f"no general text has {config.length} tokens to train further on; lower --persistence.length")
    with quiet():
        make = _supervised if method == SUPERVISED else _preference
        trainer = make(model, passages, tokenizer, config, work, seed)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    for wrapper in ("forward", "_original_forward"):
        # accelerate and trl leave theirs around the model's forward; measurements choose their own precision.
        vars(model).pop(wrapper, None)
    return model.eval()


def _supervised(model: Any, passages: Sequence[list[int]], tokenizer: Any, config: Any, work: Path, seed: int) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rate = config.learning_rate
    arguments = SFTConfig(**_common(config, work, seed), learning_rate=rate, max_length=config.length, packing=False)
    rows = Dataset.from_dict({"input_ids": list(passages)})
    return SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)


def _preference(model: Any, passages: Sequence[list[int]], tokenizer: Any, config: Any, work: Path, seed: int) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rate = config.preference_learning_rate
    arguments = DPOConfig(
        **_common(config, work, seed), learning_rate=rate, beta=config.beta, max_length=_pair_length(model, config)
    )
    return DPOTrainer(
        model=model,
        ref_model=copy.deepcopy(model),
        args=arguments,
        train_dataset=Dataset.from_list(pairs(passages, tokenizer, seed)),
        processing_class=tokenizer,
    )


def _pair_length(model: Any, config: PersistenceConfig) -> int:
    """Room for a passage that takes more tokens when its halves are tokenized again, within what the model sees."""
    return min(2 * config.length, getattr(model.config, "max_position_embeddings", None) or 2 * config.length)


def pairs(passages: Sequence[list[int]], tokenizer: "PreTrainedTokenizerBase", seed: int) -> list[dict[str, str]]:
    """Of each passage the first half as a prompt, the second as the better answer, its words shuffled as the worse.

    Passages whose words stay in order are left out.
    """
    random = np.random.default_rng(seed)
    found = []
    for tokens in passages:
        prompt, chosen = (str(tokenizer.decode(part)) for part in np.split(np.array(tokens), [len(tokens) // 2]))
        words = chosen.split(" ")
        rejected = " ".join(words[i] for i in random.permutation(len(words)))
        if rejected != chosen:
            found.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return found


def _common(config: PersistenceConfig, work: Path, seed: int) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(work),
        "max_steps": config.steps,
        "per_device_train_batch_size": config.rows,
        "lr_scheduler_type": "constant",
        "bf16": bf16_pays(),
        "fp16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "seed": seed % 2**32,
    }
