"""What a checkpoint is said to be."""

import json

import pytest
from checkpoints_by_hand import after_removal, stage
from commands import assert_refused
from families import HIDDEN, LAYERS, VOCABULARY, WIDTH, plain_model

import memsinks
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.cli import main
from memsinks.errors import CheckpointError
from memsinks.inspection.checkpoint import describe


def test_a_run_is_described(model, tmp_path):
    run = after_removal(model, tmp_path / "run", [1, 2])
    found = describe(run)
    assert found.kind == "run"
    shape = (found.model.layers, found.model.hidden, found.model.shared, found.model.vocabulary)
    assert shape == (LAYERS, HIDDEN, WIDTH, VOCABULARY)
    sinks = {n: p for n, p in model.named_parameters() if ".sinks." in n}
    assert found.pool.parameters == sum(p.numel() for p in sinks.values())
    assert found.model.parameters == sum(p.numel() for p in model.parameters()) - found.pool.parameters
    assert found.pool.rows == {i: len(model.model.layers[i].mlp.sinks.up) for i in range(LAYERS)}
    assert all(found.pool.rows[i] + found.pool.removed_rows[i] == 12 for i in range(LAYERS))
    assert (found.trained, found.removed, found.pool.removed_ids) == (3, 2, 2)
    assert found.trainings == (stage(),)
    assert [removal.id for removal in found.removals] == ["r-1"]
    assert found.files == {path.name: path.stat().st_size for path in run.iterdir()}
    assert not found.not_verified


def test_other_folders_are_told_apart(model, tmp_path):
    plain_model("gpt2").save_pretrained(tmp_path / "plain")
    memsinks.save(model, tmp_path / "sinks")
    memsinks.export(model, tmp_path / "export", mode=memsinks.Mode("chosen", (1, 2)))
    kinds = {name: describe(tmp_path / name).kind for name in ("plain", "sinks", "export")}
    assert kinds == {"plain": "plain checkpoint", "sinks": "checkpoint with sinks", "export": "export"}
    assert describe(tmp_path / "plain").model.shared == 4 * HIDDEN
    assert describe(tmp_path / "export").exported == ("chosen", 2)
    assert describe(tmp_path / "export").pool is None


def test_weights_are_read_only_to_be_verified(run):
    file = run / "sinks.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert not describe(run).verified
    with pytest.raises(CheckpointError, match="was altered"):
        describe(run, verify=True)


def test_a_plain_file_that_ends_early_is_an_error(run):
    file = run / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="ends in the middle"):
        describe(run)


def test_the_command_prints_it(model, tmp_path, capsys):
    run = after_removal(model, tmp_path / "run", [1])
    (run / NOT_VERIFIED).write_text("{}")
    assert main(["inspect", str(run), "--verify"]) == 0
    said = capsys.readouterr().out
    for words in ("run: run", "NOT VERIFIED", "pool 12, 4 active, hashed", "as they were saved", "r-1", "1 IDs"):
        assert words in said
    assert main(["inspect", str(run), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["format"], content["not_verified"], content["trained"]) == ("memsinks-inspect", True, 4)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path, capsys):
    assert_refused(["inspect", str(tmp_path)], ["no config.json"], tmp_path, capsys)
    assert_refused(["inspect", str(tmp_path / "x")], ["no such folder"], tmp_path, capsys)
