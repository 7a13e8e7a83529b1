"""Models in GGUF files against the model itself, and transformers as a reader."""

import errno
import math
import resource
import weakref

import gguf
import numpy as np
import pytest
import torch
from families import plain_model
from gguf_files import cached_tokenizer, model_for, value, written
from transformers import AutoModelForCausalLM

import memsinks
from memsinks.errors import ConfigError, InputError

KINDS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
SHAPES = {
    "llama, grouped": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, all biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 2}),
    "llama, every head its keys": ("llama", {"num_key_value_heads": 2, "rope_parameters": {"rope_theta": 5e5}}),
    "qwen2, grouped": ("qwen2", {}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
}


def shape(name):
    family, overrides = SHAPES[name]
    overrides = dict(overrides)
    if "rope_parameters" in overrides:
        overrides["rope_parameters"] = {"rope_type": "default", **overrides["rope_parameters"]}
    return model_for(cached_tokenizer("gpt-2"), family, **overrides)


def values(tensor):
    """A stored tensor as torch has it."""
    data = np.array(tensor.data)
    if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
        # A view of bytes; bfloat16 is the upper half of a float32.
        data = (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return torch.from_numpy(data).reshape(*reversed([int(n) for n in tensor.shape]))


def unpaired(stored, heads):
    """Rows in transformers' order: of a head of d rows, file row 2j is row j, and 2j + 1 is row j + d / 2."""
    rows = len(stored) // heads
    result = torch.empty_like(stored)
    for head in range(heads):
        for j in range(rows // 2):
            result[head * rows + j] = stored[head * rows + 2 * j]
            result[head * rows + j + rows // 2] = stored[head * rows + 2 * j + 1]
    return result


# Tensors and shape


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", KINDS)
def test_every_tensor_is_the_model_s(tmp_path, name, dtype):
    model = shape(name)
    plain = memsinks.fold(model, "off")
    config, reader = plain.config, written(model, tmp_path / "m.gguf", dtype=dtype)
    found = {t.name: t for t in reader.tensors}
    expected = dict(plain.named_parameters())
    assert ("lm_head.weight" in expected) is not config.tie_word_embeddings
    for key, parameter in expected.items():
        module, _, suffix = key.rpartition(".")
        if module in OUTSIDE:
            place = OUTSIDE[module]
        else:
            _, _, layer, part = module.split(".", 3)
            place = f"blk.{layer}.{LAYER[part]}"
        tensor = found.pop(f"{place}.{suffix}")
        kind = dtype if parameter.ndim == 2 else "f32"
        assert tensor.tensor_type == gguf.GGMLQuantizationType[kind.upper()]
        stored = values(tensor)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(place.split(".")[-1])
        if heads and config.model_type == "llama":
            stored = unpaired(stored, heads)
        assert torch.equal(stored.float(), parameter.detach().to(KINDS[kind]).float()), key
    assert not found


def test_the_file_says_what_the_model_is(tmp_path):
    model = shape("llama, wide heads")
    reader = written(model, tmp_path / "m.gguf", dtype="bf16")
    assert value(reader, "GGUF.version") == 3
    expected = {
        "general.architecture": "llama",
        "general.file_type": 32,
        "llama.context_length": 64,
        "llama.embedding_length": 16,
        "llama.block_count": 2,
        "llama.feed_forward_length": 24,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 12,
        "llama.attention.value_length": 12,
        "llama.rope.dimension_count": 12,
        "llama.rope.freq_base": 10_000,
        "llama.vocab_size": len(cached_tokenizer("gpt-2")),
    }
    assert {key: value(reader, key) for key in expected} == expected
    assert value(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(model.config.rms_norm_eps)


def test_llama_3_s_frequencies_are_divided_as_its_formula_says(tmp_path):
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
    rope = {"rope_type": "llama3", "rope_theta": 500.0, **scaling}
    model = model_for(cached_tokenizer("gpt-2"), "llama", head_dim=32, rope_parameters=rope)
    reader = written(model, tmp_path / "m.gguf")
    (stored,) = (values(t) for t in reader.tensors if t.name == "rope_freqs.weight")
    expected = []
    for i in range(16):
        wavelength = 2 * math.pi * 500.0 ** (2 * i / 32)
        if wavelength < 128 / 4:
            expected.append(1.0)
        elif wavelength > 128:
            expected.append(8.0)
        else:
            share = (128 / wavelength - 1) / (4 - 1)
            expected.append(1 / ((1 - share) / 8 + share))
    assert len({round(x, 6) for x in expected}) > 4  # all three cases
    assert stored.tolist() == pytest.approx(expected, rel=1e-5)


def test_no_tensor_is_kept_after_it_is_written(tmp_path, monkeypatch):
    alive, most = [], []
    write = gguf.GGUFWriter.write_tensor_data

    def noted(self, tensor, *rest):
        alive.append(weakref.ref(tensor))
        most.append(sum(kept() is not None for kept in alive))
        write(self, tensor, *rest)

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", noted)
    written(shape("llama, grouped"), tmp_path / "m.gguf", dtype="f16")
    assert len(most) == 2 * 9 + 3
    assert max(most) == 1


# transformers as a reader


def read_back(path, **options):
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **options).eval()


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_reads_the_same_model(tmp_path, name):
    model = shape(name)
    written(model, tmp_path / "m.gguf")
    # It takes Llama's biases from the file only where it is told of them.
    told = {key: True for key in ("attention_bias", "mlp_bias") if getattr(model.config, key, False)}
    again = read_back(tmp_path / "m.gguf", **told)
    assert type(again) is type(memsinks.fold(model, "off"))
    x = torch.randint(0, 300, (3, 20), generator=torch.Generator().manual_seed(0))
    with memsinks.sinks_off(model), torch.no_grad():
        assert torch.equal(again(input_ids=x).logits, model(input_ids=x).logits)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_folded_sinks_are_in_the_file(tmp_path, family):
    model = model_for(cached_tokenizer("gpt-2"), family)
    mode = memsinks.Mode("chosen", (1, 2, 3))
    written(model, tmp_path / "m.gguf", mode=mode)
    again, folded = read_back(tmp_path / "m.gguf"), memsinks.fold(model, mode)
    assert again.config.intermediate_size > 24
    x = torch.randint(0, 300, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(input_ids=x).logits, folded(input_ids=x).logits)


def test_the_model_stays_as_it_was(tmp_path):
    model = shape("llama, grouped")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    written(model, tmp_path / "m.gguf", mode="all", dtype="f16")
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


# What is refused, and what is left behind


@pytest.mark.parametrize(
    ("family", "overrides", "words"),
    [
        ("mistral", {}, "only llama and qwen2"),
        ("llama", {"hidden_act": "gelu"}, "'gelu'"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "rotary"),
        (
            "qwen2",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 1e4,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
            "rotary",
        ),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8}, "sliding window"),
        ("qwen2", {"head_dim": 4}, "8 wide together"),
    ],
)
def test_a_model_that_llama_cpp_would_run_otherwise_is_refused(tmp_path, family, overrides, words):
    model = model_for(cached_tokenizer("gpt-2"), family, **overrides)
    with pytest.raises(ConfigError, match=words):
        written(model, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_is_too_large_for_f16_is_refused(tmp_path):
    model = shape("llama, grouped")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = -7e4
        model.model.norm.weight[0] = 7e4  # a vector, stored as f32
    with pytest.raises(ConfigError, match=r"blk\.1\.ffn_up\.weight has a weight of 70000"):
        written(model, tmp_path / "m.gguf", dtype="f16")
    assert list(tmp_path.iterdir()) == []
    written(model, tmp_path / "m.gguf", dtype="bf16")


def test_a_plain_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no sinks to fold"):
        written(plain_model("llama", vocab_size=330), tmp_path / "m.gguf")


def test_the_missing_package_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("memsinks.checkpoint.gguf.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"package gguf.*not installed: pip install \"memsinks\[gguf\]\""):
        written(shape("llama, grouped"), tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_and_other_names_are_refused(tmp_path):
    (tmp_path / "m.gguf").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        memsinks.export_gguf(shape("llama, grouped"), tmp_path / "m.gguf", tokenizer=cached_tokenizer("gpt-2"))
    with pytest.raises(InputError, match=r"ends with \.gguf"):
        memsinks.export_gguf(shape("llama, grouped"), tmp_path / "m.bin", tokenizer=cached_tokenizer("gpt-2"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("limit", [0, 3000, 20_000])
def test_a_system_that_refuses_to_write_leaves_nothing(tmp_path, limit):
    """A limit on the size of files stands in for a full disk."""
    model = shape("llama, grouped")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*m\.gguf: .*nothing was left"):
            memsinks.export_gguf(model, tmp_path / "m.gguf", tokenizer=cached_tokenizer("gpt-2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensor_data", full)
    with pytest.raises(InputError, match="No space left on device"):
        memsinks.export_gguf(shape("llama, grouped"), tmp_path / "m.gguf", tokenizer=cached_tokenizer("gpt-2"))
    assert list(tmp_path.iterdir()) == []


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        written(shape("qwen2, tied"), tmp_path / name, dtype="bf16")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
