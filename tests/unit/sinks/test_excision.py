"""A removal from a file writes what one from a model in memory saves, byte for byte."""

import hashlib
import json

import pytest
import torch
from families import FAMILY_NAMES, LAYERS, sink_model
from pools import A, B, C, disjoint, hybrid
from safetensors.torch import load_file

import memsinks
from memsinks.errors import CheckpointError, ConfigError
from memsinks.ids import to_tensor
from memsinks.sinks import excision
from memsinks.sinks.excision import SinkFiles, describe, excise, row_digests
from memsinks.sinks.files import METADATA, TENSORS
from memsinks.sinks.removal import kept_rows, without, without_any

MODELS = {
    **{family: lambda family=family: sink_model(family, pool=40) for family in FAMILY_NAMES},
    "bf16": lambda: sink_model("llama", pool=40, dtype=torch.bfloat16),
    "late layers": lambda: sink_model("llama", pool=40, layers=(1,)),
    "one mask": lambda: sink_model("llama", pool=40, mask="shared"),
    "disjoint": lambda: disjoint(A, B, C),
    "hybrid": lambda: hybrid(A, B),
}


def saved(model, folder):
    memsinks.save(model, folder)
    return SinkFiles.open(folder)


def without_rows(files, table, output) -> str:
    """Write both files of the sinks; the hash of the first."""
    output.mkdir(exist_ok=True)
    excise(files, table, output)
    digest = hashlib.sha256((output / TENSORS).read_bytes()).hexdigest()
    describe(files, table, output, digest)
    return digest


def both(folder) -> bytes:
    return (folder / TENSORS).read_bytes() + (folder / METADATA).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_the_bytes_are_those_of_a_model_saved_after_the_removal(name, tmp_path):
    model = MODELS[name]()
    before = saved(model, tmp_path / "before")
    for step, gone in enumerate(([A], [B, 12345], [C])):
        table = without(before.table, to_tensor(gone), before.config, LAYERS)
        output = tmp_path / f"after-{step}"
        digest = without_rows(before, table, output)
        memsinks.remove(model, gone)
        saved(model, tmp_path / f"model-{step}")
        assert both(output) == both(tmp_path / f"model-{step}")
        before = SinkFiles.open(output)
        assert before.sha256 == digest
    everything = tmp_path / "everything"
    without_rows(before, without_any(before.table, before.config, LAYERS), everything)
    memsinks.remove(model, None)
    saved(model, tmp_path / "plain")
    assert both(everything) == both(tmp_path / "plain")


@pytest.mark.parametrize("block", [1, 100, 1000])
def test_the_bytes_do_not_depend_on_how_many_rows_are_read_at_a_time(block, tmp_path, monkeypatch):
    model = sink_model("opt", pool=40)  # has biases, whose rows are single values
    before = saved(model, tmp_path / "before")
    table = without(before.table, to_tensor([A]), before.config, LAYERS)
    monkeypatch.setattr(excision, "_BLOCK", block)
    without_rows(before, table, tmp_path / "after")
    memsinks.remove(model, [A])
    saved(model, tmp_path / "model")
    assert both(tmp_path / "after") == both(tmp_path / "model")


def test_a_file_that_ends_too_early_is_refused(tmp_path):
    files = saved(sink_model("llama", pool=40), tmp_path / "run")
    files.path.write_bytes(files.path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="shorter than its header says"):
        without_rows(files, without(files.table, to_tensor([A]), files.config, LAYERS), tmp_path / "after")


def test_with_survivors_too(tmp_path):
    model = sink_model("llama", pool=40)
    before = saved(model, tmp_path / "before")
    without_rows(
        before,
        without(before.table, to_tensor([A]), before.config, LAYERS, survivors=to_tensor([B, C])),
        tmp_path / "after",
    )
    memsinks.remove(model, [A], survivors=[B, C])
    saved(model, tmp_path / "model")
    assert both(tmp_path / "after") == both(tmp_path / "model")


def test_removed_rows_are_nowhere_in_the_file(tmp_path):
    before = saved(sink_model("llama", pool=40), tmp_path / "before")
    table = without(before.table, to_tensor([A]), before.config, LAYERS)
    without_rows(before, table, tmp_path / "after")
    data, old = (tmp_path / "after" / TENSORS).read_bytes(), load_file(tmp_path / "before" / TENSORS)
    after = SinkFiles.open(tmp_path / "after")
    for name, part in before.parts.items():
        kept = kept_rows(before.table, table, before.place(part))
        gone = torch.tensor([row for row in range(40) if row not in set(kept.tolist())])
        left = set(row_digests(after, after.parts[name], torch.arange(len(kept))))
        assert left == set(row_digests(before, part, kept))
        if part.row_bytes > 8:  # the bytes of a single bias may occur by chance
            assert not left & set(row_digests(before, part, gone))
            assert all(old[name][row].numpy().tobytes() not in data for row in gone.tolist())


def test_a_table_that_brings_rows_back_is_refused(tmp_path):
    model = sink_model("llama", pool=40)
    fresh = model.sink_allocation
    memsinks.remove(model, [A])
    files = saved(model, tmp_path / "run")
    with pytest.raises(ConfigError, match="takes rows away"):
        excise(files, fresh, tmp_path)
    assert not (tmp_path / TENSORS).exists()


def test_altered_and_damaged_files_are_refused(tmp_path):
    files = saved(sink_model("llama"), tmp_path / "run")
    data = bytearray(files.path.read_bytes())
    data[-1] ^= 1
    files.path.write_bytes(data)
    with pytest.raises(CheckpointError, match="altered"):
        SinkFiles.open(tmp_path / "run")
    files.path.write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match="header is too long"):
        SinkFiles.open(tmp_path / "run", verify=False)
    metadata = json.loads((tmp_path / "run" / METADATA).read_text())
    metadata["tensors"] = {}
    (tmp_path / "run" / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match="cannot be read"):
        SinkFiles.open(tmp_path / "run")
