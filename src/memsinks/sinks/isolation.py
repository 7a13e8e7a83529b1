"""Keep packed documents from seeing each other, or refuse.

Packed rows name their documents by ``position_ids`` that restart. transformers (5.23) turns that into a
document-causal attention mask only without a KV cache and without a 2-D attention mask, and OPT never does; where it
does not, documents see each other without a word.
"""

from typing import Any

import torch
from torch import Tensor

from memsinks.errors import SequenceIdError
from memsinks.sinks.families import Family

_BACKENDS = ("eager", "sdpa")


def isolate_packed_documents(kwargs: dict[str, Any], family: Family, attention: str, dtype: torch.dtype) -> None:
    """Complete the keyword arguments of a forward pass so that packed documents are isolated.

    Args:
        kwargs: of the model's forward; changed in place.
        family: of the model.
        attention: the model's attention implementation.
        dtype: of its attention scores, for the eager mask.

    Raises:
        SequenceIdError: the documents would see each other.
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
    if attention not in _BACKENDS:
        raise SequenceIdError(
            f"packed documents have not been shown to be isolated under attention {attention!r}; load the model with "
            f"attn_implementation set to one of {', '.join(_BACKENDS)}"
        )
    if not family.packs_by_position:
        kwargs["attention_mask"] = _document_causal_mask(positions, attention, dtype)


def _packed(positions: Tensor, mask: Any) -> bool:
    if positions.ndim != 2 or (mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2)):
        return False
    back = positions[:, 1:] <= positions[:, :-1]
    if mask is not None:
        # Left padding repeats positions too; only a step back between two real tokens starts a document.
        real = mask[:, -positions.shape[1] :].bool()
        back = back & real[:, 1:] & real[:, :-1]
    return bool(back.any())


def _document_causal_mask(positions: Tensor, attention: str, dtype: torch.dtype) -> Tensor:
    """``[B, 1, T, T]``; bool for SDPA, additive for eager attention."""
    document = torch.diff(positions, prepend=positions[:, :1] - 1).ne(1).cumsum(-1)
    same = document[:, :, None] == document[:, None, :]
    allowed = same.tril()[:, None]
    if attention == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=positions.device).masked_fill(
        ~allowed, torch.finfo(dtype).min
    )
