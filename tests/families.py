"""Tiny models of every supported family, for tests."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from memsinks import SinkConfig, attach
from memsinks.sinks.attach import sinks_of

VOCABULARY = 61
HIDDEN, WIDTH, LAYERS = 16, 24, 2

_COMMON = {
    "vocab_size": VOCABULARY,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_ROTARY = {
    **_COMMON,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
}

CONFIGS: dict[str, dict] = {
    "llama": {**_ROTARY, "mlp_bias": True},
    "mistral": {**_ROTARY, "sliding_window": 6},
    "qwen2": _ROTARY,
    "qwen3": _ROTARY,
    "gemma": _ROTARY,
    "gemma2": {**_ROTARY, "sliding_window": 6},
    "gemma3_text": {**_ROTARY, "sliding_window": 6},
    "olmo2": {k: v for k, v in _ROTARY.items() if k != "head_dim"},
    "smollm3": _ROTARY,
    "gpt2": {
        **_COMMON,
        "n_embd": HIDDEN,
        "n_layer": LAYERS,
        "n_head": 2,
        "n_positions": 64,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "gpt_neox": {
        **_COMMON,
        "hidden_size": HIDDEN,
        "intermediate_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    },
    "opt": {
        **_COMMON,
        "hidden_size": HIDDEN,
        "ffn_dim": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "word_embed_proj_dim": HIDDEN,
        "max_position_embeddings": 64,
        "dropout": 0.0,
    },
}
FAMILY_NAMES = sorted(CONFIGS)


def plain_model(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, **overrides):
    """A tiny stock model with weights large enough that every part of it matters."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**CONFIGS[family], **overrides})
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    randomise(model, seed)
    return model


def randomise(model, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.25
            is_norm = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + noise if is_norm else noise)


def sink_model(family: str, *, dtype: torch.dtype = torch.float32, pool: int = 12, active: int = 4, **options):
    """The same with sinks, whose values are as large as the model's own."""
    overrides = options.pop("overrides", {})
    model = attach(plain_model(family, dtype=dtype, **overrides), SinkConfig(pool=pool, active=active, **options))
    for index, sinks in enumerate(sinks_of(model)):
        randomise(sinks, 100 + index)
    return model


def tokens(rows: int = 3, length: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
