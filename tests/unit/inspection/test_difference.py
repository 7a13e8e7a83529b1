"""What a comparison counts, against the models in memory."""

import json

import numpy as np
import pytest
import torch
from checkpoints_by_hand import IDS, after_removal, array, lineage, saved, stage
from families import LAYERS, plain_model, sink_model
from safetensors.torch import load_file, save_file

import memsinks
from memsinks.checkpoint.lineage import Lineage
from memsinks.cli import main
from memsinks.errors import CheckpointError, InputError
from memsinks.ids import format_id, to_tensor
from memsinks.inspection import difference
from memsinks.inspection.difference import compare
from memsinks.sinks.attach import sinks_of

POOL = 12


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that every tensor takes several."""
    monkeypatch.setattr(difference, "_CHUNK", 128)


def chosen(model, number: int) -> list[set[int]]:
    """The rows of an ID in each layer, by their numbers in the pool."""
    rows = model.sink_allocation.rows(to_tensor([number]), model.sink_config, LAYERS)
    return [set(own[0].tolist()) for own in rows]


def test_a_checkpoint_equals_itself_and_its_copy(run, model, tmp_path):
    assert compare(run, run).equal
    found = compare(run, saved(model, tmp_path / "copy"))
    assert found.equal
    assert [layer.same for layer in found.layers] == [POOL] * LAYERS
    assert found.equal_tensors == len(load_file(run / "model.safetensors"))


def test_a_removal_takes_the_rows_of_its_ids_and_nothing_else(run, model, tmp_path):
    gone = [one | other for one, other in zip(chosen(model, 1), chosen(model, 2), strict=True)]
    found = compare(run, after_removal(model, tmp_path / "after", [1, 2]))
    assert not found.equal
    assert not found.tensors
    assert not found.moved
    assert [(layer.removed, layer.changed, layer.added) for layer in found.layers] == [(len(g), 0, 0) for g in gone]
    assert [layer.same for layer in found.layers] == [POOL - len(g) for g in gone]
    assert found.table["removed IDs"] == ([], [format_id(1), format_id(2)])
    assert found.table["trained IDs"] == ([format_id(1), format_id(2)], [])
    back = compare(tmp_path / "after", run)
    assert [layer.added for layer in back.layers] == [len(g) for g in gone]
    assert [layer.grown for layer in back.layers] == [0] * LAYERS


@pytest.mark.parametrize("removed_first", [(), (3,)])
def test_a_row_that_moves_is_told_with_the_ids_that_chose_it(model, tmp_path, removed_first):
    if removed_first:
        memsinks.remove(model, removed_first)
    before = saved(model, tmp_path / "before")
    rng = np.random.default_rng(0)
    expected = []
    for place, sinks in enumerate(sinks_of(model)):
        there = np.arange(POOL)
        if removed_first:
            there = model.sink_allocation.removed.present(place, POOL).numpy()
        moved = rng.choice(len(there), 2, replace=False)
        with torch.no_grad():
            sinks.down[torch.from_numpy(moved)] += 1.0
        expected.append(set(there[moved].tolist()))
    after = saved(model, tmp_path / "after")
    found = compare(before, after)
    assert [layer.changed for layer in found.layers] == [2] * LAYERS
    shares = {}
    for number in set(IDS) - set(removed_first):
        rows = chosen(model, number)
        own = [mine & (set(range(POOL)) - gone) for mine, gone in zip(rows, absent(model), strict=True)]
        of = sum(len(mine & moved) for mine, moved in zip(own, expected, strict=True))
        if of and all(own):
            shares[format_id(number)] = of / sum(map(len, own))
    assert found.moved == pytest.approx(shares)
    assert shares


def absent(model) -> list[set[int]]:
    gone = model.sink_allocation.removed
    if gone is None:
        return [set()] * LAYERS
    return [set(range(POOL)) - set(gone.present(place, POOL).tolist()) for place in range(LAYERS)]


def test_growth_adds_rows_beyond_the_pool(run, model, tmp_path):
    memsinks.grow(model, 8, trained=IDS)
    history = lineage().with_stage(stage("d" * 64), array([9]), np.ones(1, dtype=np.int64))
    found = compare(run, saved(model, tmp_path / "more", history))
    assert [(layer.same, layer.added, layer.grown) for layer in found.layers] == [(POOL, 8, 8)] * LAYERS
    assert found.settings["sinks.pool"] == (POOL, POOL + 8)
    assert found.table["trained IDs"] == ([], [format_id(9)])
    assert not found.tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_those_of_the_tensors(dtype, tmp_path):
    plain_model("llama", dtype=dtype).save_pretrained(tmp_path / "a")
    plain_model("llama", dtype=dtype, seed=1).save_pretrained(tmp_path / "b")
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    found = {tensor.name: tensor for tensor in compare(tmp_path / "a", tmp_path / "b").tensors}
    assert found.keys() == {name for name in ours if not torch.equal(ours[name], theirs[name])}
    for name, tensor in found.items():
        norm = torch.linalg.vector_norm(ours[name].double() - theirs[name].double())
        assert tensor.norm == pytest.approx(float(norm))
        assert tensor.relative == pytest.approx(float(norm / torch.linalg.vector_norm(ours[name].double())))


def test_a_tensor_that_one_lacks_or_has_in_another_shape_is_named(run, model, tmp_path):
    other = saved(model, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].clone()
    tensors["extra"] = tensors.pop("model.norm.weight")
    save_file(tensors, other / "model.safetensors")
    says = {tensor.name: tensor.what for tensor in compare(run, other).tensors}
    assert says["extra"] == "only in b"
    assert says["model.norm.weight"] == "only in a"
    assert "F32 [61, 16] in a, F32 [60, 16] in b" in says["lm_head.weight"]


def test_against_a_plain_model_all_rows_are_only_in_one(run, tmp_path):
    plain_model("llama").save_pretrained(tmp_path / "plain")
    found = compare(run, tmp_path / "plain")
    assert [layer.removed for layer in found.layers] == [POOL] * LAYERS
    assert not found.equal
    assert [layer.added for layer in compare(tmp_path / "plain", run).layers] == [POOL] * LAYERS


def test_a_lineage_alone_makes_a_difference(run, model, tmp_path):
    other = saved(model, tmp_path / "other", Lineage())
    found = compare(run, other)
    assert not found.equal
    assert set(found.table) == {"trainings", "trained IDs"}


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        compare(run, tmp_path / "empty")
    (run / "sinks.json").unlink()
    with pytest.raises(CheckpointError, match=r"sinks\.json is missing"):
        compare(run, run)


def test_the_command_says_it_by_its_exit_code(run, model, tmp_path, capsys):
    assert main(["diff", str(run), str(run)]) == 0
    assert capsys.readouterr().out.startswith("equal")
    after = after_removal(model, tmp_path / "after", [1])
    assert main(["diff", str(run), str(after)]) == 1
    assert f"b: {format_id(1)}" in capsys.readouterr().out
    assert main(["diff", str(run), str(after), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["equal"] is False
    assert main(["diff", str(run), str(tmp_path / "nothing")]) == 2


def test_hybrid_owners_are_compared_too(tmp_path):
    model = sink_model("llama", allocation="hybrid", owned=8, pool=16)
    before = saved(model, tmp_path / "before")
    memsinks.register(model, [7])
    found = compare(before, saved(model, tmp_path / "after"))
    assert found.table == {"owners": ([], [f"{format_id(7)} from row 8"])}
