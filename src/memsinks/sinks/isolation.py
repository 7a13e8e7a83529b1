"""Keep packed documents from seeing each other, or refuse.

Packed rows name their documents by ``position_ids`` that do not go on by one. transformers (5.23) turns that into
document-causal attention only without a KV cache and without a 2-D attention mask, OPT never does, and the varlen
(flash attention) kernels do for batches of one row only; where it does not, documents see each other without a word.

What each attention implementation gets:

================ ================================================================================================
eager, sdpa      transformers' own document-causal mask; for OPT the same mask, made here
flex_attention   likewise, as a ``BlockMask``; PyTorch has no backward of it on the CPU
varlen kernels   ``cu_seq_lens_q``, ``cu_seq_lens_k``, ``max_length_q``, ``max_length_k`` of the flattened batch, which
                 every supported family passes on to its attention layers; no mask
================ ================================================================================================
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    causal_mask_function,
    packed_sequence_compatibility_function,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from memsinks.errors import ConfigError, SequenceIdError
from memsinks.sinks.families import Family
from memsinks.sinks.modes import sinks_off

MASKED = ("eager", "sdpa", "flex_attention")
"""Attention implementations that a mask isolates."""


def is_varlen(attention: str) -> bool:
    """Whether transformers runs this implementation as a varlen kernel.

    True for ``flash_attention_2``, ``_3`` and ``_4``, and for kernels from the Hub (``kernels-community/...``) from
    when a model was loaded with one, which registers it.
    """
    return ALL_ATTENTION_FUNCTIONS.get(attention) is flash_attention_forward


def isolate_packed_documents(kwargs: dict[str, Any], family: Family, attention: str, dtype: torch.dtype) -> None:
    """Complete the keyword arguments of a forward pass so that packed documents are isolated.

    Args:
        kwargs: of the model's forward; changed in place.
        family: of the model.
        attention: the model's attention implementation.
        dtype: of its attention scores, for the eager mask.

    Raises:
        SequenceIdError: the documents would see each other.
        ConfigError: the attention implementation cannot isolate them, or cannot train on this device.
    """
    positions, mask = kwargs.get("position_ids"), kwargs.get("attention_mask")
    if positions is None or kwargs.get("past_key_values") is not None:
        return
    if kwargs.get("use_cache") is None:
        kwargs["use_cache"] = False
    if not _packed(positions, mask):
        return
    if kwargs["use_cache"] or mask is not None:
        raise SequenceIdError(
            "position_ids restart within a row (packed documents), but with a 2-D attention_mask or use_cache=True "
            "transformers lets packed documents see each other; leave both out"
        )
    if is_varlen(attention):
        inputs = kwargs.get("input_ids")
        rows = len(kwargs["inputs_embeds"] if inputs is None else inputs)
        kwargs.update(_varlen_arguments(positions.expand(rows, -1)))
        return
    if attention not in MASKED:
        raise ConfigError(
            f"packed documents have not been shown to be isolated under attention {attention!r}; load the model with "
            f"attn_implementation set to one of {', '.join(MASKED)} or flash_attention_2, or train on unpacked rows"
        )
    if attention == "flex_attention" and positions.device.type == "cpu" and torch.is_grad_enabled():
        raise ConfigError(
            "FlexAttention has no backward pass on the CPU; load the model with attn_implementation='sdpa' or 'eager' "
            "to train here, or evaluate under torch.no_grad()"
        )
    if not family.packs_by_position:
        kwargs["attention_mask"] = _document_causal_mask(positions, attention, dtype)


def _packed(positions: Tensor, mask: Any) -> bool:
    if positions.ndim != 2 or (mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2)):
        return False
    starts = positions[:, 1:] != positions[:, :-1] + 1
    if mask is not None:
        # Left padding repeats positions too; only a step between two real tokens starts a document.
        real = mask[:, -positions.shape[1] :].bool()
        starts = starts & real[:, 1:] & real[:, :-1]
    return bool(starts.any())


def _varlen_arguments(positions: Tensor) -> dict[str, Any]:
    """Where the documents of the flattened batch begin and end; ``cu_seq_lens_*`` are ``int32`` ``[documents + 1]``.

    Given these, transformers takes the varlen kernel whatever the batch size. What it finds out for itself, it finds
    out for one row only, and by the smallest position, so that documents that begin elsewhere run together.
    """
    starts = torch.ones_like(positions, dtype=torch.bool)
    starts[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    begins = starts.flatten().nonzero().flatten()
    ends = nn.functional.pad(begins, (0, 1), value=positions.numel()).to(torch.int32)
    longest = int(ends.diff().max())
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def _document_causal_mask(positions: Tensor, attention: str, dtype: torch.dtype) -> Any:
    """What ``attention`` takes for a mask: ``[B, 1, T, T]``, additive, boolean or a ``BlockMask``."""
    document = torch.diff(positions, prepend=positions[:, :1] - 1).ne(1).cumsum(-1)
    return ALL_MASK_ATTENTION_FUNCTIONS[attention](
        batch_size=len(positions),
        q_length=positions.shape[1],
        kv_length=positions.shape[1],
        mask_function=packed_sequence_compatibility_function(causal_mask_function, positions, document),
        allow_is_causal_skip=False,
        dtype=dtype,
        device=positions.device,
    )


_DOCUMENT = 8
"""Tokens in each of the three documents of :func:`check_isolation`."""


@torch.no_grad()
def check_isolation(model: nn.Module, *, device: torch.device | str | None = None, rows: int = 2) -> None:
    """Show on the model itself that packed documents do not see each other.

    Two forward passes, sinks off and dropout off, of ``rows`` x 24 tokens, each row three documents. The second pass
    has other tokens in the middle document of the first row; no other logit may change. The model's modes, its
    gradients and the random generators are left as they were. Run it under the autocast that training uses.

    Args:
        model: a causal LM, with or without sinks, or a wrapper around one (DDP, FSDP2); every rank must call this.
        device: of the inputs; default that of the model's parameters.
        rows: 1 or 2. Two show more, since some attention implementations isolate batches of one row only; a plain
            model that will only see one row at a time may be checked with one.

    Raises:
        ConfigError: another document's logits changed, those of the changed document did not, or some are not finite.
    """
    inner = _transformers_model(model)
    attention = inner.config._attn_implementation
    device = next(model.parameters()).device if device is None else torch.device(device)
    tokens, positions = _three_documents(inner.config, rows, device)
    middle = torch.zeros_like(tokens, dtype=torch.bool)
    middle[0, _DOCUMENT : 2 * _DOCUMENT] = True
    changed = torch.where(middle, tokens.roll(1, dims=1), tokens)
    with _evaluating(model), _sinks_off(model), _autocast_for(attention, inner.dtype, device):
        before, after = (
            model(input_ids=ids, position_ids=positions, use_cache=False).logits for ids in (tokens, changed)
        )
    if not (before.isfinite().all() and after.isfinite().all()):
        raise ConfigError(
            f"{type(inner).__name__} gives logits that are not finite under attention {attention!r}, so that the "
            "isolation of packed documents cannot be checked; check its weights and dtype"
        )
    difference = (after.float() - before.float()).abs().amax(-1)
    moved, leak = float(difference[middle].max()), float(difference[~middle].max())
    # Bitwise on the CPU. Elsewhere kernels may round differently from run to run; a leak is far above that.
    rounding = 0.0 if device.type == "cpu" else 4 * torch.finfo(before.dtype).eps * moved
    if leak > rounding:
        raise ConfigError(
            f"packed documents see each other in {type(inner).__name__} under attention {attention!r}: new tokens in "
            f"one document moved logits of another by {leak:.3g}. Choose another attention implementation "
            f"({', '.join(MASKED)} or flash_attention_2), or train on unpacked rows"
        )
    if not moved:
        raise ConfigError(
            f"{type(inner).__name__} gives the same logits for different tokens under attention {attention!r}, so "
            "that the isolation of packed documents cannot be checked; its embeddings or its head are all alike"
        )


def _transformers_model(model: nn.Module) -> Any:
    for module in model.modules():
        if hasattr(vars(module).get("config"), "_attn_implementation"):
            return module
    raise ConfigError(f"{type(model).__name__} holds no transformers model, so its packing cannot be checked")


def _three_documents(config: Any, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token IDs, neighbours different and none of them padding, and positions, both ``int64`` ``[rows, 24]``."""
    words = [i for i in range(min(config.vocab_size, 64)) if i != config.pad_token_id]
    length = 3 * _DOCUMENT
    # Steps of one, so that moving a document's tokens on by one changes each of them.
    tokens = torch.tensor([[words[(i + row) % len(words)] for i in range(length)] for row in range(rows)])
    positions = (torch.arange(length) % _DOCUMENT).repeat(rows, 1)
    return tokens.to(device), positions.to(device)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _sinks_off(model: nn.Module) -> AbstractContextManager[Any]:
    has_sinks = any("sink_mode" in vars(module) for module in model.modules())
    return sinks_off(model) if has_sinks else nullcontext()


def _autocast_for(attention: str, dtype: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    """Varlen kernels take half precision only, and training would autocast."""
    if is_varlen(attention) and dtype == torch.float32 and not torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
