"""Sinks in some layers only: which, what they select, and what the other layers stay."""

import json
import shutil

import pytest
import torch
from families import plain_model, randomise, sink_model, tokens
from pools import A, B, C, fill_with, logits
from selection_reference import reference_rows
from transformers import LlamaConfig

import memsinks
from memsinks import SinkAdamW, SinkConfig
from memsinks.checkpoint.run import fill_sinks
from memsinks.errors import CheckpointError, ConfigError
from memsinks.ids import to_tensor
from memsinks.runs.estimate import estimate
from memsinks.runs.gauge import training_flops_per_token
from memsinks.runs.memory import Geometry
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.files import load_sinks
from memsinks.sinks.modes import Mode

DEPTH = 5
PLACED = (1, 3, 4)
POOL, ACTIVE = 12, 4


def placed(*, layers=PLACED, **options):
    """A model of five layers whose sinks have the same values wherever they are."""
    model = sink_model("llama", layers=layers, overrides={"num_hidden_layers": DEPTH}, **options)
    for sinks in sinks_of(model):
        randomise(sinks, 100 + sinks.layer_index)
    return model


def reference(sequence_id: int, layer: int) -> list[int]:
    return reference_rows(sequence_id, seed=0, layer=layer, pool=POOL, active=ACTIVE)


def test_other_layers_stay_stock_and_detaching_restores_all():
    plain = plain_model("llama", num_hidden_layers=DEPTH)
    classes = {name: type(module) for name, module in plain.named_modules()}
    model = memsinks.attach(plain, SinkConfig(pool=POOL, active=ACTIVE, layers=PLACED))
    assert [sinks.layer_index for sinks in sinks_of(model)] == list(PLACED)
    for number, layer in enumerate(model.model.layers):
        stock = all(
            type(m) is classes[f"model.layers.{number}.{n}".rstrip(".")]
            for n, m in layer.named_modules()
            if "sinks" not in n
        )
        assert stock == (number not in PLACED)
    memsinks.detach(model)
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert not any("sink" in key for module in model.modules() for key in vars(module))


def test_a_layer_selects_and_starts_as_its_number_says_wherever_others_have_sinks():
    every, some = placed(layers=()), placed()
    ids = to_tensor([A, B, C])
    rows = [model.sink_allocation.rows(ids, model.sink_config, DEPTH) for model in (every, some)]
    assert rows[1].tolist() == [[reference(i, layer) for i in (A, B, C)] for layer in PLACED]
    assert torch.equal(rows[0][list(PLACED)], rows[1])
    fresh = [
        {
            sinks.layer_index: sinks.up
            for sinks in sinks_of(
                memsinks.attach(
                    plain_model("llama", num_hidden_layers=DEPTH), SinkConfig(pool=POOL, active=ACTIVE, layers=layers)
                )
            )
        }
        for layers in ((), PLACED)
    ]
    assert all(torch.equal(fresh[0][layer], fresh[1][layer]) for layer in PLACED)


@pytest.mark.parametrize("mode", ["own", "placebo", "all", Mode("chosen", (A, B))], ids=str)
def test_it_is_the_model_whose_other_sinks_are_zero(mode):
    every, some = placed(layers=(), dtype=torch.float64), placed(dtype=torch.float64)
    with torch.no_grad():
        for sinks in sinks_of(every):
            if sinks.layer_index not in PLACED:
                sinks.down.zero_()
    torch.testing.assert_close(logits(some, [A, B, C], mode), logits(every, [A, B, C], mode), atol=1e-12, rtol=0)
    assert not torch.allclose(logits(some, [A, B, C], mode), logits(some, mode="off"), atol=1e-3)


def test_the_saved_file_numbers_layers_of_the_model(tmp_path):
    model = placed()
    memsinks.grow(model, 8, trained=[A])
    fill_with(model, 300)
    memsinks.save(model, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "sinks.json").read_text())["config"]["layers"] == list(PLACED)
    loaded = memsinks.load(tmp_path / "run")
    assert loaded.sink_config == model.sink_config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(logits(loaded, [A, B, C]), logits(model, [A, B, C]))
    memsinks.save(loaded, tmp_path / "again")
    for name in ("sinks.json", "sinks.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_only_a_pool_that_uses_the_new_options_has_the_new_format(tmp_path):
    """Older code knows version 2 without these keys; it must say that it cannot read the others."""

    def written(name: str, **options) -> dict:
        memsinks.save(sink_model("llama", **options), tmp_path / name)
        return json.loads((tmp_path / name / "sinks.json").read_text())

    usual = written("usual")
    assert usual["format_version"] == 2
    assert list(usual["config"]) == ["pool", "active", "seed", "block", "init", "kernel", "allocation", "owned"]
    for name, value in (("layers", [1]), ("mask", "shared")):
        found = written(name, **{name: value})
        assert found["format_version"] == 3
        assert found["config"] == usual["config"] | {name: value}


@pytest.mark.parametrize("key", ["layers", "mask"])
def test_a_new_option_that_is_altered_is_noticed(key, tmp_path):
    memsinks.save(sink_model("llama", layers=(1,), mask="shared"), tmp_path)
    metadata = json.loads((tmp_path / "sinks.json").read_text())
    del metadata["config"][key]
    (tmp_path / "sinks.json").write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match="configuration"):
        memsinks.load(tmp_path)


def test_growth_keeps_trained_ids_and_draws_the_rows_of_the_layer():
    every, some = placed(layers=()), placed()
    before = logits(some, [A, A, A])
    for model in (every, some):
        memsinks.grow(model, 8, trained=[A])
    assert torch.equal(logits(some, [A, A, A]), before)
    new = {sinks.layer_index: sinks.up[POOL:] for sinks in sinks_of(every)}
    for sinks in sinks_of(some):
        assert sinks.up.shape[0] == POOL + 8
        assert torch.equal(sinks.up[POOL:], new[sinks.layer_index])


@pytest.mark.parametrize("gradients", ["rows", "dense"])
def test_exactly_the_rows_of_each_layer_s_number_move(gradients):
    model = placed().train()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)

    def step(*ids: int) -> None:
        x = tokens(rows=len(ids), length=6)
        model(input_ids=x, labels=x, sequence_ids=to_tensor(ids), use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):
        step(A, B)
    before = {
        (s.layer_index, n): [p.detach().clone(), *(v.clone() for v in optimizer.state[p].values())]
        for s in sinks_of(model)
        for n, p in s.named_parameters()
    }
    step(C)
    for sinks in sinks_of(model):
        for name, parameter in sinks.named_parameters():
            for old, new in zip(
                before[sinks.layer_index, name], [parameter, *optimizer.state[parameter].values()], strict=True
            ):
                moved = {int(r) for r in (old != new).view(POOL, -1).any(1).nonzero()}
                assert moved == set(reference(C, sinks.layer_index))


def test_the_estimate_counts_the_layers_with_sinks():
    config = LlamaConfig(
        vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=DEPTH, num_attention_heads=2
    )
    every, some = (
        estimate(
            config,
            SinkConfig(pool=POOL, active=ACTIVE, layers=layers),
            Geometry(rows=2, row_tokens=16, accumulation=2, devices=2, strategy="ddp", ids=2),
            tokens=0,
        )
        for layers in ((), PLACED)
    )
    for part in (
        lambda e: e.parameters.sinks,
        lambda e: e.flops.sinks,
        lambda e: e.memory.gradients_sinks,
        lambda e: e.memory.sinks,
        lambda e: e.traffic.sinks,
        lambda e: e.checkpoint - 12 * e.parameters.shared,
    ):
        assert part(some) == pytest.approx(part(every) * len(PLACED) / DEPTH)
    assert some.flops.layers == every.flops.layers
    assert some.touched_rows == every.touched_rows
    model = placed()
    active = sum(p[:ACTIVE].numel() for s in sinks_of(model) for p in s.parameters())
    extra = training_flops_per_token(model, 8) - training_flops_per_token(memsinks.detach(model), 8)
    assert extra == 6 * active


def test_layers_that_the_model_lacks_are_refused():
    model = plain_model("llama")
    with pytest.raises(ConfigError, match=r"layers=\[0, 2\]: this model has 2 decoder layers, numbered 0 to 1"):
        memsinks.attach(model, SinkConfig(pool=POOL, active=ACTIVE, layers=(0, 2)))
    assert not list(sinks_of(model))
    memsinks.attach(model, SinkConfig(pool=POOL, active=ACTIVE, layers=(1,)))


def test_sinks_of_a_deeper_model_are_refused(tmp_path):
    memsinks.save(placed(), tmp_path / "deep")
    memsinks.save(sink_model("llama"), tmp_path / "run")
    for name in ("sinks.json", "sinks.safetensors"):
        shutil.copy(tmp_path / "deep" / name, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"do not fit this model: layers=\[1, 3, 4\]"):
        memsinks.load(tmp_path / "run")


def test_sinks_of_other_layers_are_refused(tmp_path):
    memsinks.save(sink_model("llama", layers=(0,)), tmp_path)
    with pytest.raises(CheckpointError, match=r"layers\.0.*is \(12, 16\) there and None here"):
        fill_sinks(sink_model("llama", layers=(1,)), load_sinks(tmp_path)[0], tmp_path)
