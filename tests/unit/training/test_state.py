"""Weights and optimiser state by name: what is written comes back, and what does not fit is refused."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from families import plain_model, sink_model, tokens
from optimizer_oracle import BOTH, assert_bitwise, batch, everything, new_model, train

from memsinks import SinkAdamW
from memsinks.errors import CheckpointError
from memsinks.training.state import (
    NUMBERS,
    TENSORS,
    load_optimizer,
    load_weights,
    plain_weights,
    save_optimizer,
    whole_weights,
)

SETTINGS = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1, "sink_lr_multiplier": 5.0}


def made(model, gradients="rows", **options):
    optimizer = SinkAdamW(model, 1e-2, gradients=gradients, **{**SETTINGS, **options})
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return optimizer, scheduler


def advance(model, optimizer, scheduler, *seeds: int) -> None:
    for seed in seeds:
        train(model, optimizer, batch(seed, seed + 1, seed=seed))
        scheduler.step()


@pytest.fixture
def stepped():
    model = new_model(torch.float32)
    optimizer, scheduler = made(model)
    advance(model, optimizer, scheduler, 1, 2, 3)
    return model, optimizer, scheduler


@pytest.fixture
def folder(stepped, tmp_path):
    save_optimizer(*stepped, tmp_path, write=True)
    return tmp_path


@BOTH
def test_what_was_saved_goes_on_bitwise(tmp_path, gradients):
    model = new_model(torch.float32)
    optimizer, scheduler = made(model, gradients)
    advance(model, optimizer, scheduler, 1, 2, 3)
    optimizer.param_groups[0]["skipped_steps"] = 2
    save_optimizer(model, optimizer, scheduler, tmp_path, write=True)
    weights = {name: value.clone() for name, value in whole_weights(model).items()}

    other = new_model(torch.float32)
    loaded, schedule = made(other, gradients, eps=1.0, betas=(0.1, 0.2))
    load_weights(other, weights)
    load_optimizer(other, loaded, schedule, tmp_path)
    assert_bitwise(everything(model, optimizer), everything(other, loaded))
    assert loaded.skipped_steps == 2
    settings = [{k: v for k, v in g.items() if k != "params"} for g in loaded.param_groups]
    assert settings == [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    assert all(isinstance(group["betas"], tuple) for group in loaded.param_groups)
    assert schedule.state_dict() == scheduler.state_dict()
    # Another run, from here on, is the same run.
    for run in ((model, optimizer, scheduler), (other, loaded, schedule)):
        advance(*run, 4, 5)
    assert_bitwise(everything(model, optimizer), everything(other, loaded))


def test_saving_twice_gives_the_same_bytes(folder, stepped, tmp_path):
    (tmp_path / "again").mkdir()
    save_optimizer(*stepped, tmp_path / "again", write=True)
    for name in (TENSORS, NUMBERS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_rank_that_does_not_write_writes_nothing(stepped, tmp_path):
    save_optimizer(*stepped, tmp_path, write=False)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_pickled(folder, stepped):
    model, optimizer, _ = stepped
    assert {p.name for p in folder.iterdir()} == {TENSORS, NUMBERS}
    tensors = safetensors.torch.load_file(folder / TENSORS)
    held = [name for name, p in model.named_parameters() if optimizer.state.get(p)]
    assert tensors.keys() == {f"{n}.{k}" for n in held for k in ("step", "exp_avg", "exp_avg_sq")}


def test_before_the_first_step_there_is_no_state(tmp_path):
    model = new_model(torch.float32)
    save_optimizer(model, *made(model), tmp_path, write=True)
    other = new_model(torch.float32)
    optimizer, scheduler = made(other)
    load_optimizer(other, optimizer, scheduler, tmp_path)
    assert not optimizer.state


def refused(folder, model, optimizer=None, scheduler=None) -> str:
    if optimizer is None:
        optimizer, scheduler = made(model)
    with pytest.raises(CheckpointError) as caught:
        load_optimizer(model, optimizer, scheduler, folder)
    return str(caught.value)


def test_the_optimiser_of_another_model_names_a_tensor(folder):
    message = refused(folder, plain_model("llama"))
    assert "belongs to another model" in message
    assert "sinks" in message
    assert ".exp_avg" in message or ".step" in message


@pytest.mark.parametrize("options", [{"pool": 9}, {"overrides": {"intermediate_size": 20}}])
def test_an_optimiser_of_another_shape_names_a_tensor(folder, options):
    message = refused(folder, new_model(torch.float32, **options))
    assert "belongs to another model" in message
    assert "mlp" in message


def test_other_parameter_groups_are_refused(folder):
    """A frozen embedding, say: its state is left over."""
    model = new_model(torch.float32)
    model.get_input_embeddings().weight.requires_grad_(False)
    assert "embed_tokens.weight" in refused(folder, model)


@pytest.mark.parametrize("name", [TENSORS, NUMBERS])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_unreadable_files_are_named(folder, name, damage):
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:20])
    assert str(folder) in refused(folder, new_model(torch.float32))


def test_numbers_without_a_part_are_refused(folder):
    numbers = json.loads((folder / NUMBERS).read_text())
    del numbers["groups"]
    (folder / NUMBERS).write_text(json.dumps(numbers))
    assert "groups" in refused(folder, new_model(torch.float32))


# Weights


def test_whole_weights_are_the_state_and_only_for_who_keeps_them():
    model = sink_model("llama")
    weights = whole_weights(model)
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert whole_weights(model, keep=False) == {}


def test_weights_are_copied_in_place():
    model, source = sink_model("llama"), sink_model("llama")
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1)
    held = dict(model.named_parameters())
    load_weights(model, whole_weights(source))
    for name, parameter in model.named_parameters():
        assert parameter is held[name]
        assert torch.equal(parameter, source.state_dict()[name]), name


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "rows"])
def test_weights_that_do_not_fit_name_a_tensor(change):
    model = sink_model("llama")
    weights = whole_weights(model)
    name = "model.layers.1.mlp.sinks.down" if change == "rows" else "model.layers.0.mlp.up_proj.weight"
    if change == "missing":
        del weights[name]
    elif change == "extra":
        name = "model.layers.7.mlp.up_proj.weight"
        weights[name] = torch.zeros(2)
    else:
        weights[name] = weights[name][1:]
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_weights(model, weights)


def tied(**options):
    return sink_model("llama", overrides={"tie_word_embeddings": True}, **options)


@pytest.mark.parametrize("drop", ["lm_head.weight", None])
def test_tied_weights_come_once_or_twice(drop):
    """``model.safetensors`` holds them once, ``state_dict`` twice."""
    model, source = tied(), tied()
    with torch.no_grad():
        source.get_input_embeddings().weight.add_(1)
    weights = whole_weights(source)
    assert "lm_head.weight" in weights
    weights.pop(drop, None)
    load_weights(model, weights)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, source.lm_head.weight)
    with pytest.raises(CheckpointError, match="embed_tokens"):
        load_weights(model, {k: v for k, v in weights.items() if "embed_tokens" not in k})


def test_the_optimiser_of_a_tied_model_comes_back_bitwise(tmp_path):
    model, other = tied().train(), tied().train()
    optimizer, scheduler = made(model)
    advance(model, optimizer, scheduler, 1, 2)
    save_optimizer(model, optimizer, scheduler, tmp_path, write=True)
    assert not any("lm_head" in key for key in safetensors.torch.load_file(tmp_path / TENSORS))
    load_weights(other, whole_weights(model))
    loaded, schedule = made(other)
    load_optimizer(other, loaded, schedule, tmp_path)
    for run in ((model, optimizer, scheduler), (other, loaded, schedule)):
        advance(*run, 3)
    assert_bitwise(everything(model, optimizer), everything(other, loaded))


@pytest.mark.parametrize("parts", ["one file", "several"])
def test_plain_weights_of_a_saved_model(tmp_path, parts):
    model = tied()
    model.save_pretrained(tmp_path, **({} if parts == "one file" else {"max_shard_size": "4KB"}))
    assert (tmp_path / "model.safetensors").exists() == (parts == "one file")
    plain = plain_weights(tmp_path)
    assert not any("sinks" in name for name in plain)
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in plain.items())
    other = plain_model("llama", seed=3, tie_word_embeddings=True)
    load_weights(other, plain)
    with torch.no_grad():
        assert torch.equal(
            other(input_ids=tokens()).logits, plain_model("llama", tie_word_embeddings=True)(input_ids=tokens()).logits
        )


def test_plain_weights_that_cannot_be_read_name_the_folder(tmp_path):
    sink_model("llama").save_pretrained(tmp_path / "whole", max_shard_size="4KB")
    part = sorted((tmp_path / "whole").glob("model-*.safetensors"))[1].name
    for damage in ("part", "cut", "index", "nothing"):
        shutil.copytree(tmp_path / "whole", tmp_path / damage)
        if damage == "part":
            (tmp_path / damage / part).unlink()
        elif damage == "cut":
            (tmp_path / damage / part).write_bytes(b"\x00" * 12)
        elif damage == "index":
            (tmp_path / damage / "model.safetensors.index.json").write_text('{"map": {}}')
        else:
            (tmp_path / damage / "model.safetensors.index.json").unlink()
        with pytest.raises(CheckpointError, match=damage):
            plain_weights(tmp_path / damage)
