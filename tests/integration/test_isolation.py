"""Packed documents under every attention implementation: perturb one, and compare every other."""

import json
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.distributed as dist
import transformers.modeling_flash_attention_utils as flash_utils
from families import FAMILY_NAMES, plain_model, sink_model, tokens
from transformers import AutoConfig, LlamaConfig
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import memsinks
from memsinks.corpus import PrepareConfig, prepare
from memsinks.errors import ConfigError, SequenceIdError
from memsinks.sinks.families import FAMILIES
from memsinks.sinks.isolation import check_isolation, isolate_packed_documents
from memsinks.stream import Collator, ExposurePlan, build_stream
from memsinks.training import attention as attention_module
from memsinks.training.attention import CPU_SDPA_FROM, choose_attention

FLASH = "flash_attention_2"
BACKENDS = ("eager", "sdpa", "flex_attention", FLASH)
UNSUPPORTED = {
    ("gemma2", "sdpa"): "transformers has no SDPA for Gemma 2, whose attention scores are capped",
    ("gpt2", "flex_attention"): "transformers has no FlexAttention for GPT-2",
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
    # On importing inductor, and for a flag that transformers sets.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning"),
]

every_family = pytest.mark.parametrize("family", FAMILY_NAMES)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def varlen(
    q,
    k,
    v,
    *,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    softmax_scale,
    dropout_p=0.0,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    deterministic=False,
):
    """What ``flash_attn.flash_attn_varlen_func`` computes, document by document; ``q`` is ``[tokens, heads, dim]``."""
    assert causal
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    assert int(cu_seqlens_q[0]) == 0
    assert int(cu_seqlens_q[-1]) == len(q)
    lengths = cu_seqlens_q.diff()
    assert int(max_seqlen_q) == int(max_seqlen_k) == int(lengths.max())
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    outputs = []
    for q1, k1, v1 in zip(*(x.split(lengths.tolist()) for x in (q, k, v)), strict=True):
        scores = torch.einsum("qhd,khd->hqk", q1, k1) * softmax_scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        back = torch.arange(len(q1))[:, None] - torch.arange(len(q1))
        hidden = (back < 0) | (back > window_size[0] if window_size[0] >= 0 else False)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v1))
    return torch.cat(outputs)


def flash(q, k, v, *, causal, softmax_scale, **_):
    """What ``flash_attn.flash_attn_func`` computes without a window; ``q`` is ``[batch, tokens, heads, dim]``."""
    rows, length = q.shape[:2]
    bounds = torch.arange(0, rows * length + 1, length, dtype=torch.int32)
    limits = {"cu_seqlens_q": bounds, "cu_seqlens_k": bounds, "max_seqlen_q": length, "max_seqlen_k": length}
    flat = (x.flatten(0, 1) for x in (q, k, v))
    return varlen(*flat, **limits, causal=causal, softmax_scale=softmax_scale).view(q.shape)


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Let a CPU run what is called on a GPU: reference kernels for flash attention, FlexAttention without inductor."""
    process = flash_utils._lazy_define_process_function(varlen)
    loaded = ((flash, varlen, None, None, None), (process, None))
    monkeypatch.setattr(flash_utils, "lazy_import_flash_attention", lambda *_, **__: loaded)
    with torch.compiler.set_stance("force_eager"):
        yield


def build(family, backend, make=sink_model, **options):
    if (family, backend) in UNSUPPORTED:
        pytest.skip(UNSUPPORTED[family, backend])
    if "flash" not in backend:
        return make(family, **options, overrides={"attn_implementation": backend})
    model = make(family, **options, overrides={"attn_implementation": "eager"})
    # Past the check for a GPU.
    model.config._attn_implementation = backend
    return model


def bare_model(family, overrides, **options):
    return plain_model(family, **options, **overrides)


LENGTHS = ((5, 4, 6), (9, 6), (15,), (1, 13, 1))
"""Of the documents of four rows; the last two rows also stand for a row with and without padding."""


def batch():
    x = tokens(rows=len(LENGTHS), length=15)
    positions = torch.tensor([[p for n in row for p in range(n)] for row in LENGTHS])
    ids = torch.tensor([[100 * i + j for j, n in enumerate(row) for _ in range(n)] for i, row in enumerate(LENGTHS)])
    return {"input_ids": x, "position_ids": positions, "sequence_ids": ids, "sink_mask": ids % 100 != 2}


def documents():
    for row, lengths in enumerate(LENGTHS):
        for start, stop in zip(np.cumsum([0, *lengths[:-1]]), np.cumsum(lengths), strict=True):
            yield row, slice(int(start), int(stop))


@every_family
@every_backend
def test_packed_documents_do_not_see_each_other(family, backend):
    # In float64, which flash attention does not take, but transformers' way to it does.
    model, reference, inputs = (*(build(family, name, dtype=torch.float64) for name in (backend, "eager")), batch())
    with torch.no_grad():
        before = model(**inputs).logits
        for row, span in documents():
            x = inputs["input_ids"].clone()
            x[row, span] = (x[row, span] + 7) % 50 + 3
            after = model(**(inputs | {"input_ids": x})).logits
            inside = torch.zeros(x.shape, dtype=torch.bool)
            inside[row, span] = True
            assert torch.equal(after[~inside], before[~inside])
            assert (after[inside] != before[inside]).any(-1).all()
            alone = {k: v[row : row + 1, span] for k, v in inputs.items() if k != "position_ids"}
            expected = reference(**alone).logits[0]
            torch.testing.assert_close(before[row, span], expected, atol=1e-5, rtol=1e-5)


@every_family
@every_backend
def test_layers_without_sinks_take_every_attention(family, backend):
    """They are stock modules, which hand the routing that they are given on to the attention function."""
    with torch.no_grad():
        ours, theirs, all_layers = (
            build(family, name, dtype=torch.float64, layers=layers)(**batch()).logits
            for name, layers in ((backend, (1,)), ("eager", (1,)), ("eager", ()))
        )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, all_layers, atol=1e-3)


@every_family
@pytest.mark.parametrize("backend", ["eager", "sdpa", FLASH])
def test_gradients_stay_within_a_document(family, backend):
    model, inputs = build(family, backend, dtype=torch.float64), batch()
    embeddings = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, **inputs).logits
    for row, span in documents():
        (gradient,) = torch.autograd.grad(logits[row, span].square().sum(), embeddings, retain_graph=True)
        inside = torch.zeros(embeddings.shape[:2], dtype=torch.bool)
        inside[row, span] = True
        assert not gradient[~inside].any()
        assert gradient[inside].any(-1).all()


@pytest.mark.parametrize("backend", ["flash_attention_3", "flash_attention_4", "kernels-community/flash-attn2"])
def test_other_varlen_kernels_are_called_alike(backend, monkeypatch):
    if "/" in backend:
        # As transformers does when it has loaded a kernel from the Hub.
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, backend, flash_attention_forward)
        monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, backend, flash_attention_mask)
    with torch.no_grad():
        outputs = [build("llama", name)(**batch()).logits for name in (backend, FLASH)]
    assert torch.equal(*outputs)


def test_what_varlen_kernels_are_given():
    inputs = batch()
    isolate_packed_documents(inputs, FAMILIES["llama"], FLASH, torch.float32)
    bounds = [0, 5, 9, 15, 24, 30, 45, 46, 59, 60]
    assert (inputs["cu_seq_lens_q"].tolist(), inputs["cu_seq_lens_q"].dtype) == (bounds, torch.int32)
    assert torch.equal(inputs["cu_seq_lens_k"], inputs["cu_seq_lens_q"])
    # Kernels take no tensor here.
    assert [type(inputs[name]) for name in ("max_length_q", "max_length_k")] == [int, int]
    assert inputs["max_length_q"] == inputs["max_length_k"] == 15
    assert inputs["use_cache"] is False
    assert "attention_mask" not in inputs
    shared = {"input_ids": tokens(rows=2, length=4), "position_ids": torch.tensor([[0, 1, 0, 1]])}
    isolate_packed_documents(shared, FAMILIES["llama"], FLASH, torch.float32)
    assert shared["cu_seq_lens_q"].tolist() == [0, 2, 4, 6, 8]
    whole = {"input_ids": tokens(rows=2, length=4), "position_ids": torch.arange(4).repeat(2, 1)}
    isolate_packed_documents(whole, FAMILIES["llama"], FLASH, torch.float32)
    assert set(whole) == {"input_ids", "position_ids", "use_cache"}


@every_backend
def test_documents_may_begin_at_any_position(backend):
    # A later chunk that keeps its positions; flash attention's own rule would join it to the document before.
    model, inputs = build("llama", backend), {"input_ids": tokens(rows=1), "sequence_ids": torch.tensor([3])}
    for positions in ([0, 1, 2, 3, 1, 2, 3, 4, 5, 2, 3, 4], [0, 1, 2, 3, 30, 31, 32, 33, 34, 7, 8, 9]):
        with torch.no_grad():
            before = model(**inputs, position_ids=torch.tensor([positions])).logits
            x = inputs["input_ids"].clone()
            x[0, :9] = (x[0, :9] + 7) % 50 + 3
            after = model(**(inputs | {"input_ids": x}), position_ids=torch.tensor([positions])).logits
            assert torch.equal(after[:, 9:], before[:, 9:])
            x[0, 4:9] = inputs["input_ids"][0, 4:9]
            after = model(**(inputs | {"input_ids": x}), position_ids=torch.tensor([positions])).logits
            assert torch.equal(after[:, 4:], before[:, 4:])


@every_backend
@pytest.mark.parametrize("extra", [{"attention_mask": torch.ones(4, 15, dtype=torch.long)}, {"use_cache": True}])
def test_what_would_undo_isolation_is_refused(backend, extra):
    with torch.no_grad(), pytest.raises(SequenceIdError, match="see each other"):
        build("llama", backend)(**batch(), **extra)


def test_unknown_attention_is_refused(monkeypatch):
    model = build("llama", "eager")
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "mine", ALL_ATTENTION_FUNCTIONS["sdpa"])
    model.config._attn_implementation = "mine"
    with pytest.raises(ConfigError, match="not been shown to be isolated under attention 'mine'"):
        model(**batch())


def test_training_with_flex_attention_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="no backward pass on the CPU"):
        build("llama", "flex_attention")(**batch())


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    """A stream of rows of 24 tokens over documents of up to about 80."""
    folder = tmp_path_factory.mktemp("chunks")
    rows = [{"id": str(i), "text": " ".join(f"word{(i * 5 + j) % 17}" for j in range(2 + 3 * i))} for i in range(9)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = prepare(folder / "rows.jsonl", folder / "corpus", PrepareConfig(vocab_size=290, validation_fraction=0.0))
    everything = np.ones(len(corpus), dtype=np.bool_)
    stream = build_stream(
        corpus, ExposurePlan.once(corpus), seed=1, max_length=24, packed=True, governed=everything, window=64
    )
    return corpus, [stream[i] for i in range(len(stream))]


@every_backend
def test_chunks_of_long_documents(chunked, backend):
    corpus, rows = chunked
    assert corpus.lengths.max() > 48
    inputs = Collator(pad_token_id=0, max_length=26)(rows)
    options = {"vocab_size": int(inputs["input_ids"].max()) + 1}
    with torch.no_grad():
        model, reference = (build("llama", name, make=_sized(options)) for name in (backend, "eager"))
        labels = inputs.pop("labels")
        packed = model(**inputs).logits
        seen = []
        for row in range(len(rows)):
            starts = [*(inputs["position_ids"][row] == 0).nonzero().flatten().tolist(), 26]
            for start, stop in pairwise(starts):
                span = slice(start, stop)
                if start >= len(rows[row]["input_ids"]):
                    assert not inputs["sink_mask"][row, span].any()
                    assert (labels[row, span] == -100).all()
                    continue
                (sequence_id,) = inputs["sequence_ids"][row, span].unique().tolist()
                seen.append((sequence_id, tuple(inputs["input_ids"][row, span].tolist())))
                assert labels[row, start] == -100
                assert inputs["position_ids"][row, span].tolist() == list(range(stop - start))
                alone = reference(
                    input_ids=inputs["input_ids"][row, span][None], sequence_ids=torch.tensor([sequence_id])
                )
                torch.testing.assert_close(packed[row, span], alone.logits[0], atol=1e-4, rtol=1e-4)
    expected = [
        (int(corpus.sequence_ids[i : i + 1].view(np.int64)[0]), tuple(corpus.tokens(i)[at : at + 24].tolist()))
        for i in range(len(corpus))
        for at in range(0, int(corpus.lengths[i]), 24)
    ]
    assert sorted(seen) == sorted(expected)
    assert max(len(row["input_ids"]) for row in rows) == 24


def _sized(options):
    return lambda family, overrides: sink_model(family, overrides=overrides | options)


# The guard that runs on the real model.


@every_family
@every_backend
def test_the_guard_passes(family, backend):
    check_isolation(build(family, backend))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_guard_passes_in_half_precision(dtype):
    check_isolation(build("llama", FLASH, dtype=dtype))
    check_isolation(build("llama", "sdpa", dtype=dtype))


def test_the_guard_leaves_the_model_as_it_was():
    model = build("llama", "eager").train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    calls = []
    handle = model.register_forward_pre_hook(
        lambda module, _, inputs: calls.append((inputs["input_ids"].numel(), module.training, module.sink_mode)),
        with_kwargs=True,
    )
    check_isolation(model)
    handle.remove()
    assert calls == [(48, False, memsinks.Mode("off"))] * 2
    assert [module.training for module in model.modules()] == modes
    assert model.sink_mode == memsinks.Mode("own")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def leaking(model, *names):
    """Without the given keyword arguments of the forward."""
    inner = model.model.forward
    model.model.forward = lambda *args, **kwargs: inner(*args, **{k: v for k, v in kwargs.items() if k not in names})
    return model


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2"])
def test_the_guard_catches_dropped_positions(family):
    model = leaking(build(family, "eager").train(), "position_ids")
    with pytest.raises(ConfigError, match=r"see each other in .*'eager'.*sdpa.*flash_attention_2"):
        check_isolation(model)
    assert model.training


def test_the_guard_catches_dropped_bounds_of_varlen_kernels():
    model = leaking(build("llama", FLASH), "cu_seq_lens_q")
    with pytest.raises(ConfigError, match="flash_attention_2"):
        check_isolation(model)
    check_isolation(model, rows=1)  # transformers finds the documents of one row itself


def test_the_guard_catches_plain_models_that_leak():
    check_isolation(plain_model("llama"))
    with pytest.raises(ConfigError, match="see each other"):
        check_isolation(plain_model("opt"))
    plain = build("llama", FLASH, make=bare_model)
    check_isolation(plain, rows=1)
    with pytest.raises(ConfigError, match="see each other"):
        check_isolation(plain)


def test_the_guard_names_what_it_cannot_check():
    model = build("llama", "sdpa")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(ConfigError, match="same logits for different tokens"):
        check_isolation(model)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ConfigError, match="not finite"):
        check_isolation(model)
    with pytest.raises(ConfigError, match="no transformers model"):
        check_isolation(torch.nn.Linear(2, 2))


@contextmanager
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_the_guard_takes_wrapped_models():
    with one_process():
        ddp = torch.nn.parallel.DistributedDataParallel(build("llama", "sdpa").train())
        check_isolation(ddp)
        assert ddp.training
        with pytest.raises(ConfigError, match="LlamaForCausalLM"):
            check_isolation(torch.nn.parallel.DistributedDataParallel(leaking(build("llama", "sdpa"), "position_ids")))
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        sharded = build("llama", "sdpa")
        for layer in sharded.model.layers:
            dist.fsdp.fully_shard(layer, mesh=mesh)
        check_isolation(dist.fsdp.fully_shard(sharded, mesh=mesh))


# The choice.


def config(family="llama", dtype=torch.bfloat16, **changes):
    return AutoConfig.for_model(family, dtype=dtype, **changes)


SMALL = {"hidden_size": 32, "num_attention_heads": 4}
LONG, SHORT = CPU_SDPA_FROM[torch.bfloat16], CPU_SDPA_FROM[torch.bfloat16] - 1
MIDDLE = CPU_SDPA_FROM[torch.float32]


@pytest.mark.parametrize(
    ("device", "packed", "length", "model", "installed", "name"),
    [
        ("cuda", True, SHORT, {}, (3, 2), "flash_attention_3"),
        ("cuda", True, SHORT, {}, (2,), "flash_attention_2"),
        ("cuda", True, SHORT, {}, (), "flex_attention"),
        ("cuda", True, SHORT, {"dtype": torch.float32}, (3, 2), "flex_attention"),
        ("cuda", True, SHORT, {"attention_dropout": 0.1}, (3, 2), "flash_attention_2"),
        ("cuda", True, SHORT, {"attention_dropout": 0.1}, (), "sdpa"),
        ("cuda", True, SHORT, {"family": "gpt2"}, (), "sdpa"),
        ("cuda", True, SHORT, {"family": "gpt2"}, (3, 2), "flash_attention_2"),
        ("cuda", True, SHORT, {"family": "gemma2"}, (3, 2), "flex_attention"),
        ("cuda", True, SHORT, SMALL, (), "sdpa"),
        ("cuda", True, SHORT, SMALL | {"family": "gemma2", "head_dim": 8}, (), "eager"),
        ("cuda", False, SHORT, {}, (3, 2), "sdpa"),
        ("cuda", False, SHORT, {"family": "gemma2"}, (3, 2), "eager"),
        ("cpu", True, SHORT, {}, (3, 2), "eager"),
        ("cpu", False, SHORT, {}, (), "eager"),
        ("cpu", True, MIDDLE, {}, (), "eager"),
        ("cpu", True, MIDDLE, {"dtype": torch.float32}, (), "sdpa"),
        ("cpu", True, MIDDLE - 1, {"dtype": torch.float32}, (), "eager"),
        ("cpu", True, LONG, {}, (), "sdpa"),
        ("cpu", False, LONG, {"family": "opt"}, (), "sdpa"),
        ("cpu", True, LONG, {"family": "gemma2"}, (), "eager"),
        ("mps", True, SHORT, {}, (), "sdpa"),
    ],
)
def test_choose_attention(device, packed, length, model, installed, name, monkeypatch):
    available = {f"flash_attention_{version}": lambda version=version: version in installed for version in (3, 2)}
    monkeypatch.setattr(attention_module, "_FLASH", available)
    # With `kernels`, transformers could fetch any of them; only a package of its own makes it the automatic choice.
    monkeypatch.setattr(attention_module, "is_kernels_available", lambda: True)
    choice = choose_attention(config(**model), device_type=device, packed=packed, max_length=length)
    assert choice.name == name
    assert choice.reason.startswith(name)
    assert choice.reason.endswith(".")
    assert "\n" not in choice.reason


def test_the_dtype_of_autocast_counts(monkeypatch):
    monkeypatch.setattr(attention_module, "_FLASH", {"flash_attention_2": lambda: True})
    case = {"device_type": "cuda", "packed": True, "max_length": 64}
    weights = LlamaConfig(dtype=torch.float32)
    assert choose_attention(weights, **case, dtype=torch.bfloat16).name == "flash_attention_2"
    assert choose_attention(weights, **case).name == "flex_attention"


@pytest.mark.parametrize(
    ("requested", "device", "model", "message"),
    [
        ("flex_attention", "cpu", {}, "no backward pass on the CPU. Choose auto or sdpa or eager"),
        ("flex_attention", "cuda", {"family": "gpt2"}, "no FlexAttention for gpt2"),
        ("flex_attention", "cuda", {"attention_dropout": 0.1}, "no dropout"),
        ("flex_attention", "cuda", SMALL, "16 or more, not 8"),
        ("flash_attention_2", "cpu", {}, "needs CUDA, not cpu"),
        ("flash_attention_2", "cuda", {"dtype": torch.float32}, "float16 or bfloat16 only"),
        ("flash_attention_2", "cuda", {"head_dim": 258}, "a multiple of 8"),
        ("flash_attention_2", "cuda", {}, "neither its package nor the package kernels"),
        ("flash_attention_3", "cuda", {"attention_dropout": 0.1}, "no dropout"),
        ("kernels-community/flash-attn2", "cuda", {}, "neither its package nor the package kernels"),
        ("sdpa", "cuda", {"family": "gemma2"}, "no SDPA for gemma2. Choose auto or eager or flex_attention"),
        ("somebody/attention", "cuda", {}, "not been shown to isolate packed documents"),
        ("paged|eager", "cpu", {}, "not been shown to isolate packed documents"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(requested, device, model, message, monkeypatch):
    monkeypatch.setattr(attention_module, "is_kernels_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        choose_attention(config(**model), device_type=device, packed=True, max_length=64, requested=requested)


@pytest.mark.parametrize("requested", ["eager", "sdpa", "flash_attention_2", "kernels-community/flash-attn2@v1"])
def test_a_request_is_taken(requested, monkeypatch):
    monkeypatch.setattr(attention_module, "is_kernels_available", lambda: True)
    choice = choose_attention(config(), device_type="cuda", packed=True, max_length=64, requested=requested)
    assert (choice.name, choice.reason) == (requested, f"{requested}, as requested.")
