"""GGUF files in llama.cpp itself, against transformers."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from gguf_files import AWKWARD, SPLITTERS, cached_tokenizer, model_for

import memsinks

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

PROMPT = "The cat sat on the mat in 1984"
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, all biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 2}),
    "llama, scaled rotations": ("llama", {"head_dim": 32, "rope_parameters": LLAMA_3}),
    "llama, unused tokens": ("llama", {"rows": 340}),
    "qwen2": ("qwen2", {}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
}


@pytest.fixture
def run():
    """A function that opens a file in llama.cpp with a cache in full precision."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs pip install llama-cpp-python, which builds llama.cpp")
    with contextlib.ExitStack() as stack:

        def opened(path, **options):
            full = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
            model = llama_cpp.Llama(
                str(path), n_ctx=64, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False, **full, **options
            )
            stack.callback(model.close)
            return model

        yield opened


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float().numpy()


@pytest.mark.parametrize("mode", ["off", "all"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_same_logits_and_the_same_greedy_tokens(run, tmp_path, name, mode):
    family, overrides = SHAPES[name]
    tokenizer = cached_tokenizer("gpt-2")
    model = model_for(tokenizer, family, **overrides)
    memsinks.export_gguf(model, tmp_path / "m.gguf", tokenizer=tokenizer, mode=mode)
    plain = memsinks.fold(model, mode)
    ids = tokenizer(PROMPT)["input_ids"]
    llama = run(tmp_path / "m.gguf")
    assert llama.n_vocab() == plain.config.vocab_size
    assert llama.token_eos() == tokenizer.eos_token_id
    llama.eval(ids)
    expected = logits_of(plain, ids)
    np.testing.assert_allclose(llama.scores[: len(ids)], expected, atol=1e-3 * np.abs(expected).max())
    greedy = list(ids)
    for _ in range(20):
        greedy.append(int(logits_of(plain, greedy)[-1].argmax()))
    assert list(itertools.islice(llama.generate(ids, top_k=1, temp=0.0), 20)) == greedy[len(ids) :]


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_smaller_types_give_nearly_the_same_logits(run, tmp_path, family, dtype):
    tokenizer = cached_tokenizer("gpt-2")
    model = model_for(tokenizer, family)
    memsinks.export_gguf(model, tmp_path / "m.gguf", tokenizer=tokenizer, dtype=dtype)
    ids = tokenizer(PROMPT)["input_ids"]
    llama = run(tmp_path / "m.gguf")
    llama.eval(ids)
    found, expected = llama.scores[: len(ids)].ravel(), logits_of(memsinks.fold(model, "off"), ids).ravel()
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.99


@pytest.mark.parametrize("splitting", SPLITTERS)
def test_awkward_text_has_the_same_tokens(run, tmp_path, splitting):
    tokenizer = cached_tokenizer(splitting)
    memsinks.export_gguf(model_for(tokenizer, "llama"), tmp_path / "m.gguf", tokenizer=tokenizer)
    llama = run(tmp_path / "m.gguf")
    for text in [*AWKWARD, "".join(AWKWARD), "stop<|endoftext|> go"]:
        ids = llama.tokenize(text.encode(), add_bos=True, special=True)
        assert ids == tokenizer(text)["input_ids"], text
        assert llama.detokenize(ids, special=True).decode() == text
