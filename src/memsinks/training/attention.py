"""Which attention implementation a run trains with, and why.

A run names the choice at its start and stores it, since it decides both speed and rounding. On CUDA, packed rows take
a varlen (flash attention) kernel if its package is installed, else FlexAttention, both of which skip the blocks that
packing masks out; SDPA with a mask computes them all.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers.integrations.hub_kernels import is_kernel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import (
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_flash_attn_4_available,
    is_kernels_available,
)

from memsinks.errors import ConfigError

AUTO = "auto"

CPU_SDPA_FROM = {torch.float32: 512, torch.bfloat16: 1024}
"""Row length from which SDPA is the faster on a CPU, in the mean of packed and unpacked: benchmarks/attention.json."""

_FLASH = {"flash_attention_3": is_flash_attn_3_available, "flash_attention_2": is_flash_attn_2_available}
"""Varlen kernels to choose, the preferred first, and whether their package can be imported and has a GPU to run on."""

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Choice:
    """An attention implementation.

    Attributes:
        name: what transformers calls it (``attn_implementation``).
        reason: one sentence for the start of a run and its record.
    """

    name: str
    reason: str


def choose_attention(
    model_config: Any,
    *,
    device_type: str,
    packed: bool,
    max_length: int,
    requested: str = AUTO,
    dtype: torch.dtype | None = None,
) -> Choice:
    """The attention implementation to train a model with.

    Args:
        model_config: of the transformers model.
        device_type: as ``torch.device.type`` names it: ``"cpu"``, ``"cuda"``, ...
        packed: rows hold several documents, which must not see each other.
        max_length: tokens in a row.
        requested: an implementation to check and take; ``"auto"`` chooses one.
        dtype: that attention will run in: autocast's, else that of the weights. Default: the configuration's.

    Raises:
        ConfigError: the requested implementation is unknown, cannot train this model on this device, or cannot
            isolate packed documents.
    """
    case = _Case(model_config, device_type, packed, max_length, dtype or _config_dtype(model_config))
    if requested == AUTO:
        return case.choose()
    problem = case.problem(requested)
    if problem is not None:
        others = [name for name in ("sdpa", "eager", "flex_attention", *_FLASH) if case.problem(name) is None]
        raise ConfigError(f"attention {requested!r} cannot be used: {problem}. Choose {' or '.join((AUTO, *others))}")
    return Choice(requested, f"{requested}, as requested.")


@dataclass(frozen=True)
class _Case:
    config: Any
    device: str
    packed: bool
    max_length: int
    dtype: torch.dtype

    def choose(self) -> Choice:
        rows = "packed rows" if self.packed else "rows of one document"
        if self.device == "cuda" and self.packed:
            for name, installed in _FLASH.items():
                # A kernel that transformers would fetch from the Hub is for the user to ask for; and not every version
                # of flash attention caps scores.
                if installed() and not self._softcap and self.problem(name) is None:
                    return Choice(name, f"{name}: {rows} on CUDA; its varlen kernel skips what packing masks out.")
            if self.problem("flex_attention") is None:
                reason = f"flex_attention: {rows} on CUDA; its block mask skips what packing masks out."
                return Choice("flex_attention", reason)
        if (sdpa_problem := self.problem("sdpa")) is not None:
            return Choice("eager", f"eager: {sdpa_problem}.")
        if self.device == "cpu" and self.max_length < CPU_SDPA_FROM.get(self.dtype, CPU_SDPA_FROM[torch.float32]):
            return Choice("eager", f"eager: {rows} of at most {self.max_length} tokens on CPU, where it is the faster.")
        return Choice("sdpa", f"sdpa: {rows} of at most {self.max_length} tokens on {self.device.upper()}.")

    def problem(self, name: str) -> str | None:
        """Why this implementation cannot be used; None if it can."""
        if name == "eager":
            return None
        if name == "sdpa":
            return None if self._supports("sdpa") else f"transformers has no SDPA for {self._family}"
        if name == "flex_attention":
            return self._flex_problem()
        if re.fullmatch(r"flash_attention_\d", name) or (is_kernel(name) and name.startswith("kernels-community/")):
            return self._flash_problem(name)
        return "it has not been shown to isolate packed documents" if self.packed else "it is not known to memsinks"

    def _flex_problem(self) -> str | None:
        if not self._supports("flex_attn"):
            return f"transformers has no FlexAttention for {self._family}"
        if self.device == "cpu":
            return "FlexAttention has no backward pass on the CPU"
        if self._dropout:
            return f"FlexAttention has no dropout, and {self._family} is set to attention dropout {self._dropout}"
        if self._head_dim < 16:
            return f"FlexAttention needs attention heads of 16 or more, not {self._head_dim}"
        return None

    def _flash_problem(self, name: str) -> str | None:
        if not self._supports("flash_attn"):
            return f"transformers has no flash attention for {self._family}"
        if self.device != "cuda":
            return f"flash attention needs CUDA, not {self.device}"
        if self.dtype not in _HALF:
            return f"flash attention takes float16 or bfloat16 only, not {self.dtype}"
        if name != "flash_attention_2" and self._dropout:
            return f"it has no dropout, and {self._family} is set to attention dropout {self._dropout}"
        if self._head_dim > 256 or self._head_dim % 8:
            return f"flash attention takes heads of up to 256, a multiple of 8, not {self._head_dim}"
        # Without its own package, transformers fetches a kernel from the Hub through the package `kernels`.
        installed = {**_FLASH, "flash_attention_4": is_flash_attn_4_available}.get(name)
        if (installed is not None and installed()) or is_kernels_available():
            return None
        return "neither its package nor the package kernels is installed"

    def _supports(self, what: str) -> bool:
        return bool(getattr(MODEL_FOR_CAUSAL_LM_MAPPING.get(type(self.config), None), f"_supports_{what}", False))

    @property
    def _family(self) -> str:
        return str(self.config.model_type)

    @property
    def _dropout(self) -> float:
        return float(getattr(self.config, "attention_dropout", getattr(self.config, "attn_pdrop", 0.0)) or 0.0)

    @property
    def _softcap(self) -> bool:
        return getattr(self.config, "attn_logit_softcapping", None) is not None

    @property
    def _head_dim(self) -> int:
        return int(getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads)


def _config_dtype(config: Any) -> torch.dtype:
    return config.dtype or torch.get_default_dtype()
