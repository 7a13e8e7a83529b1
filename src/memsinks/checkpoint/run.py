"""Save and load a model with its sinks."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from memsinks.checkpoint.card import CARD, CardFacts, run_facts, write_card
from memsinks.errors import CheckpointError, ConfigError, InputError
from memsinks.sinks.adapters import refuse_adapters
from memsinks.sinks.allocation import PREFIX, AllocationTable
from memsinks.sinks.attach import SinkModel, attach, sinks_of
from memsinks.sinks.files import load_sinks
from memsinks.sinks.modes import host_of


def save(model: Any, directory: str | Path, *, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Write the plain checkpoint with the sinks and a model card; the directory appears whole or not at all.

    Any ordinary loader reads the directory as the model with sinks off; :func:`load` reads it with its sinks.

    Args:
        model: a model with sinks attached.
        directory: created, or its files of the same names replaced, but for a ``README.md`` that is not ours.
        tokenizer: saved along, if given.

    Raises:
        ConfigError: the model has no sinks.
        CheckpointError: the directory has a lineage or a record of a run, and it cannot be read.
        InputError: the directory cannot be written; nothing is left behind.
    """
    if not isinstance(model, SinkModel):
        raise ConfigError("this model has no sinks to save; use its own save_pretrained")
    refuse_adapters(model)
    with staged(Path(directory)) as staging:
        model.save_pretrained(staging)
        if tokenizer is not None:
            tokenizer.save_pretrained(staging)
        facts = CardFacts(config=model.sink_config, table=model.sink_allocation, **run_facts(Path(directory)))
        write_card(staging, facts, instead_of=Path(directory) / CARD)


def load(directory: str | Path, **options: Any) -> Any:
    """Load a model with its sinks.

    Args:
        directory: what :func:`save` wrote, or one of Trainer's checkpoints.
        options: passed to ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        CheckpointError: a file is missing, or the sinks were altered or belong to another model.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is not a directory; give the directory that memsinks.save wrote")
    if (directory / NOT_VERIFIED).is_file():
        warnings.warn(
            f"{directory}: a removal made this, and its verification did not pass ({NOT_VERIFIED})", stacklevel=2
        )
    tensors, config = load_sinks(directory)
    try:
        plain = AutoModelForCausalLM.from_pretrained(directory, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"the plain checkpoint in {directory} cannot be loaded (config.json, model.safetensors): {error}"
        ) from error
    try:
        model = attach(plain, config, table=AllocationTable.from_tensors(tensors, config))
    except ConfigError as error:
        raise CheckpointError(f"the sinks in {directory} do not fit this model: {error}") from error
    fill_sinks(model, tensors, directory)
    return model.eval()


def fill_sinks(model: nn.Module, tensors: dict[str, torch.Tensor], origin: Path) -> None:
    """Copy saved rows into a model's sinks, and give it the saved allocation table.

    Args:
        model: with a pool of the same size and kind.
        tensors: what :func:`~memsinks.sinks.files.load_sinks` read.
        origin: where they come from, for messages.

    Raises:
        CheckpointError: names or shapes differ, or the allocation is of another kind.
    """
    host = host_of(model)
    table = AllocationTable.from_tensors(tensors, host.sink_config)
    tensors = {key: value for key, value in tensors.items() if not key.startswith(PREFIX)}
    own = {f"layers.{s.layer_index}.{k}": p for s in sinks_of(model) for k, p in s.named_parameters(recurse=False)}
    ours = {k: tuple(p.shape) for k, p in own.items()}
    theirs = {k: tuple(t.shape) for k, t in tensors.items()}
    if ours != theirs:
        different = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        raise CheckpointError(
            f"the sinks in {origin} do not fit this model: {different[0]} is {theirs.get(different[0])} there and "
            f"{ours.get(different[0])} here"
        )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(tensors[key])
    host.sink_allocation = table


NOT_VERIFIED = "NOT-VERIFIED.json"
"""Beside a checkpoint whose removal did not show what it had to; :func:`load` warns of it."""


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A temporary directory whose files move to ``directory`` when the block ends well; else nothing is left.

    Raises:
        InputError: the system refused to write (a full disk, no permission).
    """
    staging = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        yield staging
        if directory.is_dir():
            for file in sorted(staging.iterdir()):
                target = directory / file.name
                if target.is_dir():
                    shutil.rmtree(target)
                file.replace(target)
        else:
            staging.chmod(0o777 & ~_umask())
            staging.replace(directory)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot write {directory}: {reason}; nothing was left there") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
