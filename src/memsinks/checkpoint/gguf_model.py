"""What a GGUF file says about a model: its shape, and the names and layout of its tensors."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from memsinks.errors import ConfigError

if TYPE_CHECKING:
    from gguf import GGUFWriter

ARCHITECTURES = ("llama", "qwen2")
"""Model types that can be written; llama.cpp's names for them are the same."""
_ROPE_FACTORS = "rope_freqs.weight"


def check_config(config: Any) -> None:
    """Refuse a model that llama.cpp would run otherwise than transformers does.

    Args:
        config: of a transformers model.

    Raises:
        ConfigError: the family, activation, rotary embedding, window or width of heads is not one that can be written.
    """
    if config.model_type not in ARCHITECTURES:
        raise _refusal(f"its type is {config.model_type!r}, and only {' and '.join(ARCHITECTURES)} can")
    if config.hidden_act != "silu":
        raise _refusal(f"hidden_act is {config.hidden_act!r}, and llama.cpp computes 'silu'")
    rope = config.rope_parameters
    allowed = ("default", "llama3") if config.model_type == "llama" else ("default",)
    if rope["rope_type"] not in allowed or rope.get("partial_rotary_factor", 1) != 1:
        raise _refusal(f"its rotary embedding is {rope}; written are whole heads with rope_type {' or '.join(allowed)}")
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise _refusal("it attends in a sliding window; llama.cpp would attend to everything")
    width = config.num_attention_heads * head_width(config)
    if config.model_type == "qwen2" and width != config.hidden_size:
        raise _refusal(f"its heads are {width} wide together, and llama.cpp wants hidden_size, {config.hidden_size}")


def head_width(config: Any) -> int:
    """Dimensions of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def add_shape(writer: "GGUFWriter", config: Any) -> None:
    """Write a model's shape as metadata."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_width(config))
    writer.add_value_length(head_width(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_width(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def named_tensors(model: Any) -> dict[str, Tensor]:
    """A stock model's tensors by llama.cpp's names, in the model's own layout and without copies.

    Raises:
        ConfigError: a tensor has no place in a GGUF file of this family.
    """
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = model.config
    names = get_tensor_name_map(MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    found: dict[str, Tensor] = {}
    for name, tensor in model.named_parameters():  # a tied head is not named again
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise _refusal(f"llama.cpp has no place for its tensor {name}")
        found[place] = tensor.detach()
    if config.rope_parameters["rope_type"] == "llama3":
        found[_ROPE_FACTORS] = _rope_factors(config)
    return found


def laid_out(name: str, tensor: Tensor, config: Any) -> Tensor:
    """A tensor as llama.cpp wants it.

    Llama's rotary embedding turns pairs of dimensions. transformers pairs each in the first half of a head with one in
    the second half; llama.cpp, for ``llama`` but not for ``qwen2``, has the two of a pair side by side.
    """
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    part = name.split(".")[-2]
    if config.model_type != "llama" or part not in heads:
        return tensor
    return tensor.unflatten(0, (heads[part], 2, -1)).transpose(1, 2).flatten(0, 2)


def _rope_factors(config: Any) -> Tensor:
    """By what llama3's scaling divides each frequency of the rotary embedding."""
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = head_width(config)
    plain = config.rope_parameters["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    return (plain / scaled.double()).float()


def _refusal(reason: str) -> ConfigError:
    return ConfigError(f"this model cannot be written as GGUF: {reason}")
