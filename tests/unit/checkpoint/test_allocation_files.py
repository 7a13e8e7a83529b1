"""Saved pools with owners or segments: the same sinks for every ID, and nothing altered unnoticed."""

import hashlib
import json

import pytest
import safetensors.torch
import torch
from families import LAYERS, sink_model
from pools import NOBODY, A, B, C, disjoint, fill_with, hybrid, logits

import memsinks
from memsinks.checkpoint.run import fill_sinks
from memsinks.errors import CheckpointError
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.files import load_allocation, load_sinks


def grown_hybrid():
    model = hybrid(A, C)
    memsinks.grow(model, 8, trained=[B, 2**63 + 1])
    memsinks.grow(model, 4, trained=[5])
    fill_with(model, 300)
    return model


def grown_hashed():
    model = sink_model("llama", seed=4)
    memsinks.grow(model, 8, trained=[B])
    fill_with(model, 300)
    return model


def grown_disjoint():
    model = disjoint(A, B, C)
    memsinks.grow(model, 8, trained=())
    memsinks.register(model, [5])
    fill_with(model, 300)
    return model


MODELS = {"hashed": grown_hashed, "hybrid": grown_hybrid, "disjoint": grown_disjoint, "new": hybrid}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


@every_model
def test_loading_gives_the_same_logits(make, tmp_path):
    model = make()
    memsinks.save(model, tmp_path / "run")
    loaded = memsinks.load(tmp_path / "run")
    assert loaded.sink_config == model.sink_config
    assert loaded.sink_allocation.facts() == model.sink_allocation.facts()
    assert load_allocation(tmp_path / "run").facts() == model.sink_allocation.facts()
    for ids in ([A, B, C], [5, NOBODY, 2**63 + 1]):
        assert torch.equal(logits(loaded, ids), logits(model, ids))
    memsinks.save(loaded, tmp_path / "again")
    for name in ("sinks.json", "sinks.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


@every_model
def test_rows_and_table_share_the_file_without_colliding(make, tmp_path):
    model = make()
    memsinks.save(model, tmp_path)
    names = safetensors.torch.load_file(tmp_path / "sinks.safetensors").keys()
    rows = {f"layers.{i}.{part}" for i in range(LAYERS) for part in ("up", "down", "gate", "up_bias", "gate_bias")}
    assert rows <= names
    extra = {name for name in names - rows if name.startswith("allocation.")}
    assert rows | extra == names
    assert bool(extra) == (make is not hybrid), "the table of a new pool follows from its configuration"
    assert json.loads((tmp_path / "sinks.json").read_text())["allocation"] == model.sink_allocation.facts()


def test_what_a_trainer_does_on_resuming(tmp_path):
    """Its calls: ``load_sinks(directory)`` and ``fill_sinks(model, tensors, directory)``."""
    model = grown_hybrid()
    memsinks.save(model, tmp_path)
    target = memsinks.load(tmp_path)
    memsinks.grow(model, 4, trained=())
    tensors, config = load_sinks(tmp_path)
    assert config == target.sink_config
    target.sink_allocation = AllocationTable.initial(config)
    fill_with(target, 1)
    fill_sinks(target, tensors, tmp_path)
    assert torch.equal(logits(target, [A, B, 5]), logits(memsinks.load(tmp_path), [A, B, 5]))
    assert target.sink_allocation.facts() == json.loads((tmp_path / "sinks.json").read_text())["allocation"]
    before = model.sink_allocation
    with pytest.raises(CheckpointError):
        fill_sinks(model, tensors, tmp_path)
    assert model.sink_allocation is before


def test_a_table_for_another_kind_of_pool_is_refused(tmp_path):
    memsinks.save(disjoint(A, B, C), tmp_path)
    with pytest.raises(CheckpointError, match="disjoint pool of 12 rows, 12 of them owned; this model's is hashed"):
        fill_sinks(sink_model("llama"), load_sinks(tmp_path)[0], tmp_path)


def test_an_altered_or_missing_table_is_noticed(tmp_path):
    memsinks.save(grown_hybrid(), tmp_path)
    metadata = json.loads((tmp_path / "sinks.json").read_text())
    for change in ({"allocation": {**metadata["allocation"], "owners": 1}}, {"allocation": None}):
        (tmp_path / "sinks.json").write_text(json.dumps(metadata | change))
        with pytest.raises(CheckpointError, match=r"allocation in .*sinks\.json"):
            memsinks.load(tmp_path)
    config = {**metadata["config"], "owned": 12}
    (tmp_path / "sinks.json").write_text(json.dumps(metadata | {"config": config}))
    with pytest.raises(CheckpointError, match="configuration"):
        memsinks.load(tmp_path)


def test_files_of_version_1_load_as_hashed(tmp_path):
    """What memsinks 0.1.0 wrote: no allocation in either file."""
    model = sink_model("llama", seed=3)
    memsinks.save(model, tmp_path)
    metadata = json.loads((tmp_path / "sinks.json").read_text())
    tensors = safetensors.torch.load_file(tmp_path / "sinks.safetensors")
    old = {k: v for k, v in metadata["config"].items() if k not in ("allocation", "owned")}
    data = safetensors.torch.save(tensors, metadata={"config": json.dumps(old)})
    metadata |= {"format_version": 1, "config": old}
    metadata["tensors"] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    del metadata["allocation"]
    (tmp_path / "sinks.safetensors").write_bytes(data)
    (tmp_path / "sinks.json").write_text(json.dumps(metadata))
    loaded = memsinks.load(tmp_path)
    assert loaded.sink_config == model.sink_config
    assert torch.equal(logits(loaded, [A, B, C]), logits(model, [A, B, C]))
