"""A stock model and its tokenizer as one GGUF file, which llama.cpp runs."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from memsinks.checkpoint.export import RECORD, export_record, fold
from memsinks.checkpoint.gguf_model import add_shape, check_config, laid_out, named_tensors
from memsinks.checkpoint.gguf_tokenizer import Vocabulary, read_vocabulary
from memsinks.errors import ConfigError, InputError
from memsinks.sinks.attenuation import Attenuation
from memsinks.sinks.modes import OFF, ModeLike, as_mode

GgufType = Literal["f32", "f16", "bf16"]
"""In what the matrices are stored; vectors (norms and biases) are always ``f32``, as llama.cpp wants them."""

_TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# numpy has no bfloat16; its bits are as good.
_NUMPY = {"f32": np.float32, "f16": np.float16, "bf16": np.int16}


def export_gguf(
    model: Any,
    file: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase,
    dtype: GgufType = "f32",
    mode: ModeLike = OFF,
    attenuate: Sequence[Attenuation] = (),
) -> None:
    """Write :func:`~memsinks.fold`'s model and a tokenizer as one GGUF file.

    Beyond the folded model no more than one of its tensors is held in memory. With sinks folded in, a file beside it,
    ``NAME.gguf.memsinks-export.json``, says which, so that a removal finds it.

    Args:
        model: with sinks, of type ``llama`` or ``qwen2``; it is not changed.
        file: to write, named ``*.gguf``.
        tokenizer: byte-level BPE, that of the model.
        dtype: in what to store the matrices.
        mode: off, chosen, placebo or all.
        attenuate: see :func:`~memsinks.fold`.

    Raises:
        ConfigError: see :func:`~memsinks.fold`; or the model or the tokenizer is not one that llama.cpp would run as
            transformers does, or a weight is too large for ``f16``.
        InputError: the package gguf is missing, or the file exists, is named otherwise or cannot be written. Nothing is
            left behind.
    """
    file = Path(file)
    check_gguf_file(file)
    vocabulary = check_gguf(model, tokenizer)
    plain = fold(model, mode, attenuate=attenuate)
    tensors = named_tensors(plain)
    if dtype == "f16":
        _check_range(tensors)
    with _appearing(file) as part:
        _write(part, plain.config, tensors, vocabulary, dtype)
        if as_mode(mode) != OFF:
            record = json.dumps(export_record(as_mode(mode), attenuate), indent=1) + "\n"
            file.with_name(f"{file.name}.{RECORD}").write_text(record)


def check_gguf_file(file: Path) -> None:
    """Refuse what can be refused before a model is loaded.

    Raises:
        InputError: the package gguf is missing, or the file exists or is named otherwise than ``*.gguf``.
    """
    if find_spec("gguf") is None:
        raise InputError('GGUF files need the package gguf, which is not installed: pip install "memsinks[gguf]"')
    if file.suffix != ".gguf":
        raise InputError(f"{file}: the name of a GGUF file ends with .gguf, or programs do not know it; add that")
    if file.exists() or file.is_symlink():
        raise InputError(f"{file} exists; choose another name or move it away")


def check_gguf(model: Any, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """Refuse a model or tokenizer that cannot be written, whichever sinks are folded in.

    Returns:
        The tokenizer as llama.cpp wants it.

    Raises:
        ConfigError: see :func:`export_gguf`.
    """
    check_config(model.config)
    return read_vocabulary(tokenizer, model.config.vocab_size)


def _write(part: Path, config: Any, tensors: dict[str, Tensor], vocabulary: Vocabulary, dtype: GgufType) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

    kinds = {name: dtype if tensor.ndim > 1 else "f32" for name, tensor in tensors.items()}
    writer = GGUFWriter(part, config.model_type)
    try:
        writer.add_type("model")
        whole = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}[dtype]
        writer.add_file_type(LlamaFileType[whole])
        add_shape(writer, config)
        _add_vocabulary(writer, vocabulary)
        for name, tensor in tensors.items():
            kind = kinds[name]
            size = tensor.numel() * _TORCH[kind].itemsize
            raw = GGMLQuantizationType[kind.upper()]
            writer.add_tensor_info(name, tensor.shape, np.dtype(_NUMPY[kind]), size, raw_dtype=raw)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            writer.write_tensor_data(_numpy(laid_out(name, tensor, config), kinds[name]))
    finally:
        writer.close()


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.begin)
    writer.add_eos_token_id(vocabulary.end)
    if vocabulary.padding is not None:
        writer.add_pad_token_id(vocabulary.padding)
    if vocabulary.unknown is not None:
        writer.add_unk_token_id(vocabulary.unknown)
    writer.add_add_bos_token(vocabulary.add_begin)
    writer.add_add_eos_token(vocabulary.add_end)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _numpy(tensor: Tensor, kind: str) -> np.ndarray:
    stored = tensor.to("cpu", _TORCH[kind]).contiguous()
    return (stored.view(torch.int16) if kind == "bf16" else stored).numpy()


def _check_range(tensors: dict[str, Tensor]) -> None:
    most = torch.finfo(torch.float16).max
    for name, tensor in tensors.items():
        largest = max(abs(float(bound)) for bound in tensor.aminmax())
        if tensor.ndim > 1 and largest > most:
            raise ConfigError(f"{name} has a weight of {largest:g}, and f16 ends at {most:g}; write bf16 or f32")


@contextmanager
def _appearing(file: Path) -> Iterator[Path]:
    """A temporary file that takes the name of ``file`` when the block ends well, and else is removed."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(file)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror or error}; nothing was left there") from error
    finally:
        part.unlink(missing_ok=True)
