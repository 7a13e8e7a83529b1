"""Saved runs: whole or not at all, the plain model for any loader, and no altered sink goes unnoticed."""

import errno
import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from families import plain_model, sink_model, tokens
from transformers import AutoModelForCausalLM

import memsinks
from memsinks import SinkConfig
from memsinks.errors import CheckpointError, ConfigError, InputError
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.selection import select

FILES = ("sinks.safetensors", "sinks.json")


@pytest.fixture
def saved(tmp_path):
    memsinks.save(sink_model("llama", seed=5), tmp_path / "run")
    return tmp_path / "run"


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_everything_comes_back(tmp_path, dtype):
    model = sink_model("llama", dtype=dtype, seed=2**63 - 1, kernel="dense", block=2)
    memsinks.save(model, tmp_path / "a" / "run")
    loaded = memsinks.load(tmp_path / "a" / "run")
    assert loaded.sink_config == model.sink_config
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for key, value in loaded.state_dict().items():
        assert value.dtype == dtype
        assert torch.equal(value, expected[key]), key
    memsinks.save(loaded, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "a" / "run")


def test_options_reach_the_loader(saved):
    assert {p.dtype for p in memsinks.load(saved, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_no_sink_is_in_the_plain_checkpoint(saved):
    plain = safetensors.torch.load_file(saved / "model.safetensors")
    assert plain.keys() == plain_model("llama").state_dict().keys()
    sinks = safetensors.torch.load_file(saved / "sinks.safetensors")
    parts = ("up", "down", "gate", "up_bias", "gate_bias")
    assert sinks.keys() == {f"layers.{i}.{part}" for i in range(2) for part in parts}
    assert "sink" not in (saved / "config.json").read_text()
    model, info = AutoModelForCausalLM.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values()), info
    assert type(model) is type(plain_model("llama"))


def test_a_model_s_own_save_pretrained_keeps_the_split(tmp_path):
    model = sink_model("llama")
    model.save_pretrained(tmp_path)
    assert not any("sink" in key for key in safetensors.torch.load_file(tmp_path / "model.safetensors"))
    x, ids = tokens(), torch.arange(3)
    loaded = memsinks.load(tmp_path)
    assert torch.equal(loaded(input_ids=x, sequence_ids=ids).logits, model(input_ids=x, sequence_ids=ids).logits)


def test_no_pickle(saved):
    assert {p.suffix for p in saved.iterdir()} == {".json", ".safetensors", ".md"}
    assert not [p for p in saved.iterdir() if p.name.startswith(".")]


# What is missing or altered


@pytest.mark.parametrize("name", FILES)
def test_a_missing_sinks_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        memsinks.load(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_plain_file_is_a_checkpoint_error(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        memsinks.load(saved)


def test_no_directory(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere is not a directory"):
        memsinks.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="not a directory"):
        memsinks.load(tmp_path / "file")


@pytest.mark.parametrize("position", [0, 8, 100, 0.5, -1])
def test_one_flipped_bit_in_the_tensors_is_noticed(saved, position):
    file = saved / "sinks.safetensors"
    data = bytearray(file.read_bytes())
    data[int(position * len(data)) if isinstance(position, float) else position] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"sinks\.safetensors was altered"):
        memsinks.load(saved)


def test_truncated_tensors_are_noticed(saved):
    file = saved / "sinks.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="altered"):
        memsinks.load(saved)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '{"format_version": 1}', '{"format_version": 1, "config": 3}', "\ud800"]
)
def test_unreadable_metadata_is_a_checkpoint_error(saved, content):
    (saved / "sinks.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"sinks\.json"):
        memsinks.load(saved)


@pytest.mark.parametrize("version", [0, 5, "1", None])
def test_another_format_version_is_refused(saved, version):
    metadata = json.loads((saved / "sinks.json").read_text())
    metadata["format_version"] = version
    (saved / "sinks.json").write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match="format version"):
        memsinks.load(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("pool", 11), ("active", 3), ("active", 99), ("seed", 6), ("block", 2), ("seed", "5"), ("unknown", 1)],
)
def test_an_altered_configuration_is_noticed(saved, key, value):
    """Another seed or another number of active sinks would address other rows, and nothing else would tell."""
    metadata = json.loads((saved / "sinks.json").read_text())
    metadata["config"][key] = value
    (saved / "sinks.json").write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match=r"sinks"):
        memsinks.load(saved)


@pytest.mark.parametrize(
    "other",
    [
        lambda: sink_model("llama", pool=16),
        lambda: sink_model("llama", overrides={"num_hidden_layers": 3}),
        lambda: sink_model("llama", overrides={"mlp_bias": False}),
        lambda: sink_model("opt"),
        lambda: sink_model("llama", overrides={"hidden_size": 32}),
    ],
    ids=["pool", "layers", "biases", "family", "width"],
)
def test_sinks_of_another_model_are_refused(saved, tmp_path, other):
    memsinks.save(other(), tmp_path / "other")
    pool = json.loads((tmp_path / "other" / "sinks.json").read_text())["config"]["pool"]
    shutil.copy(tmp_path / "other" / "sinks.safetensors", saved)
    with pytest.raises(CheckpointError, match="altered"):
        memsinks.load(saved)
    shutil.copy(tmp_path / "other" / "sinks.json", saved)
    if pool != 12:
        return  # a consistent pair of any pool fits: the pool is not the model's
    with pytest.raises(CheckpointError, match="do not fit this model"):
        memsinks.load(saved)


# Writing


def test_saving_over_a_run_replaces_it(tmp_path):
    memsinks.save(sink_model("llama", pool=8), tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    new = sink_model("llama", pool=12, seed=3)
    memsinks.save(new, tmp_path / "run")
    assert memsinks.load(tmp_path / "run").sink_config == new.sink_config
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    memsinks.save(new, tmp_path / "fresh")
    (tmp_path / "run" / "notes.txt").unlink()
    assert contents(tmp_path / "run") == contents(tmp_path / "fresh")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh", "run"]


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "breaks",
    [
        "transformers.PreTrainedModel.save_pretrained",
        "memsinks.sinks.saving.save_sinks",
        "safetensors.torch.save_file",
        "transformers.modeling_utils.safe_save_file",
        "pathlib.Path.write_bytes",
        "pathlib.Path.replace",
    ],
)
@pytest.mark.parametrize("existing", [False, True], ids=["new", "over an older run"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, breaks, existing):
    if existing and breaks == "pathlib.Path.replace":
        return  # Files move one by one into a directory that exists.
    if existing:
        memsinks.save(sink_model("llama", pool=8), tmp_path / "run")
    before = contents(tmp_path)
    model = sink_model("llama")
    with monkeypatch.context() as patch:
        try:
            patch.setattr(breaks, full_disk)
        except AttributeError:
            pytest.fail(f"{breaks} is gone; name what writes now")
        if breaks == "safetensors.torch.save_file":
            # transformers imported its own name for it; both are tried.
            patch.setattr("transformers.modeling_utils.safe_save_file", full_disk)
        with pytest.raises(InputError, match=r"cannot write .*run: No space left on device; nothing was left"):
            memsinks.save(model, tmp_path / "run")
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == (["run"] if existing else [])
    memsinks.save(model, tmp_path / "run")
    memsinks.load(tmp_path / "run")


@pytest.mark.parametrize("limit", [0, 1000, 15_000], ids=str)
def test_a_system_that_really_refuses_to_write(tmp_path, limit):
    """A limit on the size of files stops the system's own writes, also those of safetensors' compiled code."""
    model = sink_model("llama")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*run: .*nothing was left"):
            memsinks.save(model, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made():
    with pytest.raises(InputError, match="cannot write /dev/null/run"):
        memsinks.save(sink_model("llama"), "/dev/null/run")


def test_a_failure_of_another_kind_leaves_nothing_either(tmp_path, monkeypatch):
    def boom(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr("memsinks.sinks.saving.save_sinks", boom)
    with pytest.raises(RuntimeError, match="boom"):
        memsinks.save(sink_model("llama"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="cannot write"):
        memsinks.save(sink_model("llama"), tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_plain_model_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="no sinks to save"):
        memsinks.save(plain_model("llama"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# Export and folding; equality over the families is in tests/integration/test_families.py


def test_export_off_is_the_plain_checkpoint_bitwise(tmp_path):
    model = sink_model("llama")
    memsinks.export(model, tmp_path / "off")
    assert not list((tmp_path / "off").glob("sinks.*"))
    record = json.loads((tmp_path / "off" / "memsinks-export.json").read_text())
    assert (record["mode"], record["ids"]) == ("off", [])
    exported = safetensors.torch.load_file(tmp_path / "off" / "model.safetensors")
    memsinks.save(model, tmp_path / "run")
    plain = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    assert exported.keys() == plain.keys()
    assert all(torch.equal(exported[k], plain[k]) for k in plain)


def test_export_does_not_change_the_model(tmp_path):
    model, x, ids = sink_model("llama"), tokens(), torch.arange(3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config, logits = model.config.to_dict(), model(input_ids=x, sequence_ids=ids).logits
    memsinks.export(model, tmp_path / "all", mode="all")
    assert model.config.to_dict() == config
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(model(input_ids=x, sequence_ids=ids).logits, logits)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "all").config.intermediate_size == 24 + 12


def test_fold_pads_layers_to_the_widest():
    model = sink_model("llama", dtype=torch.float64)
    folded = memsinks.fold(model, memsinks.Mode("chosen", (1, 2, 3)))
    rows = select(torch.tensor([1, 2, 3]), seed=0, layers=2, pool=12, active=4)
    sizes = [len(r.unique()) for r in rows]
    assert folded.config.intermediate_size == 24 + max(sizes)
    for layer, size in zip(folded.model.layers, sizes, strict=True):
        assert not layer.mlp.down_proj.weight[:, 24 + size :].any()
        assert layer.mlp.down_proj.weight[:, 24 : 24 + size].any(0).all()


def test_what_cannot_be_folded(tmp_path):
    with pytest.raises(ConfigError, match="'own' depends on each sequence"):
        memsinks.export(sink_model("llama"), tmp_path / "own", mode="own")
    with pytest.raises(ConfigError, match="no sinks to fold"):
        memsinks.export(plain_model("llama"), tmp_path / "plain")
    assert list(tmp_path.iterdir()) == []


def test_export_to_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full_disk)
    with pytest.raises(InputError, match="No space left"):
        memsinks.export(sink_model("llama"), tmp_path / "off")
    assert list(tmp_path.iterdir()) == []


def test_a_pretrained_base_saves_and_loads_with_its_sinks(tmp_path):
    """``load`` attaches to a model that comes from a checkpoint, where sinks would start as a no-op."""
    plain_model("llama").save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = memsinks.attach(base, SinkConfig(pool=12, active=4))
    with torch.no_grad():
        for sinks in sinks_of(model):
            sinks.down.normal_(generator=torch.Generator().manual_seed(0))
    memsinks.save(model, tmp_path / "run")
    loaded = memsinks.load(tmp_path / "run")
    assert loaded.sink_config == replace(model.sink_config)
    for ours, theirs in zip(sinks_of(model), sinks_of(loaded), strict=True):
        assert torch.equal(ours.down, theirs.down)
