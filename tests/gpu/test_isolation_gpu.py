"""Packed documents on CUDA, with the real kernels: perturb one, and compare every other, forward and backward."""

import pytest
import torch
from families import FAMILY_NAMES, sink_model, tokens
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from memsinks.sinks.isolation import check_isolation
from memsinks.training.attention import choose_attention

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    # Of inductor, which compiles FlexAttention.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]

INSTALLED = {"flash_attention_2": is_flash_attn_2_available, "flash_attention_3": is_flash_attn_3_available}
UNSUPPORTED = {
    ("gemma2", "sdpa"): "transformers has no SDPA for Gemma 2, whose attention scores are capped",
    ("gpt2", "flex_attention"): "transformers has no FlexAttention for GPT-2",
}
LENGTHS = ((50, 41, 69), (97, 63), (160,), (1, 158, 1))
LENGTH = 160


def build(family, backend):
    if (family, backend) in UNSUPPORTED:
        pytest.skip(UNSUPPORTED[family, backend])
    if not INSTALLED.get(backend, lambda: True)():
        pytest.skip(f"the package of {backend} is not installed")
    # Heads of 32: FlexAttention takes none below 16.
    gpt2 = {"n_embd": 64, "n_positions": 256}
    others = {"hidden_size": 64, "max_position_embeddings": 256, "head_dim": 32}
    if family in ("olmo2", "opt", "gpt_neox"):
        del others["head_dim"]
    if family == "opt":
        others["word_embed_proj_dim"] = 64
    sizes = gpt2 if family == "gpt2" else others
    dtype = torch.bfloat16 if backend in INSTALLED else torch.float32
    overrides = {"attn_implementation": "eager" if backend in INSTALLED else backend, **sizes}
    model = sink_model(family, dtype=dtype, overrides=overrides).cuda()
    if backend in INSTALLED:
        model.set_attn_implementation(backend)
    return model


def batch():
    positions = torch.tensor([[p for n in row for p in range(n)] for row in LENGTHS])
    ids = torch.tensor([[100 * i + j for j, n in enumerate(row) for _ in range(n)] for i, row in enumerate(LENGTHS)])
    inputs = {"input_ids": tokens(len(LENGTHS), LENGTH), "position_ids": positions, "sequence_ids": ids}
    return {name: value.cuda() for name, value in inputs.items()}


def documents():
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in lengths:
            yield row, slice(start, start + length)
            start += length


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("backend", ["eager", "sdpa", "flex_attention", *INSTALLED])
def test_packed_documents_do_not_see_each_other(family, backend, monkeypatch):
    # Gradients of one document after the other, from one forward.
    monkeypatch.setattr(torch._functorch.config, "donated_buffer", False)
    model, inputs = build(family, backend), batch()
    check_isolation(model)
    embeddings = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    before = model(inputs_embeds=embeddings, **inputs).logits
    for row, span in documents():
        inside = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device="cuda")
        inside[row, span] = True
        (gradient,) = torch.autograd.grad(before[row, span].float().square().sum(), embeddings, retain_graph=True)
        assert not gradient[~inside].any()
        assert gradient[inside].any(-1).all()
        # With gradients, as before: FlexAttention compiles a kernel of its own without, which may round otherwise.
        after = model(inputs_embeds=torch.where(inside[..., None], -embeddings, embeddings), **inputs).logits
        assert torch.equal(after[~inside], before[~inside])
        assert (after[inside] != before[inside]).any(-1).all()


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("backend", ["sdpa", "flex_attention", *INSTALLED])
def test_equals_each_document_alone(family, backend):
    model, inputs = build(family, backend), batch()
    reference = build(family, "eager").to(model.dtype)
    labels = inputs["input_ids"].masked_fill(inputs["position_ids"] == 0, -100)
    packed = model(**inputs).logits.float()
    losses = torch.nn.functional.cross_entropy(
        packed[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum", ignore_index=-100
    )
    losses.backward()
    for row, span in documents():
        one = {k: v[row : row + 1, span] for k, v in inputs.items() if k != "position_ids"}
        alone = reference(**one).logits.float()
        close = {"atol": 0.15, "rtol": 0.1} if backend in INSTALLED else {"atol": 2e-3, "rtol": 2e-3}
        torch.testing.assert_close(packed[row, span], alone[0], **close)
        torch.nn.functional.cross_entropy(alone[0, :-1], one["input_ids"][0, 1:], reduction="sum").backward()
    error, scale = 0.0, 0.0
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None
            continue
        error += float((ours.grad.float() - theirs.grad.float()).square().sum())
        scale += float(theirs.grad.float().square().sum())
    assert (error / scale) ** 0.5 < (0.1 if backend in INSTALLED else 1e-3)


@pytest.mark.parametrize("packed", [True, False])
def test_the_choice_can_be_loaded(packed):
    config = build("llama", "eager").config
    choice = choose_attention(config, device_type="cuda", packed=packed, max_length=LENGTH, dtype=torch.bfloat16)
    model = build("llama", "eager").to(torch.bfloat16)
    model.set_attn_implementation(choice.name)
    if packed:
        check_isolation(model)
