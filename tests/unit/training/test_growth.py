"""A pool that grows while an optimiser is at work: old rows go on as if nothing had happened, new ones start afresh."""

import copy

import pytest
import torch
from optimizer_oracle import (
    BOTH,
    HYPER,
    POOL,
    assert_bitwise,
    backward,
    batch,
    everything,
    new_model,
    sink_tensors,
    train,
)

from memsinks import SinkAdamW, grow
from memsinks.training.state import load_optimizer, load_weights, save_optimizer, whole_weights

TRAINED, NEW, ROWS = (1, 2, 3), 77, 6


def made(model, gradients):
    return SinkAdamW(
        model, 0.01, weight_decay=0.1, sink_lr_multiplier=5.0, sink_weight_decay=0.1, gradients=gradients, **HYPER
    )


def stepped(gradients, **options):
    """A model and its optimiser after two steps over all of TRAINED."""
    model = new_model(**options)
    optimizer = made(model, gradients)
    train(model, optimizer, *(batch(*TRAINED, seed=seed) for seed in range(2)))
    return model, optimizer


def old_and_new(model, optimizer) -> tuple[dict, dict]:
    """Everything that has a row for each sink, cut between the old rows and the new."""
    found = sink_tensors(model, optimizer)
    return {k: v[:POOL] for k, v in found.items()}, {k: v[POOL:] for k, v in found.items()}


def shared(model, optimizer) -> dict:
    return {k: v for k, v in everything(model, optimizer).items() if ".sinks." not in k}


@BOTH
@pytest.mark.parametrize("when", ["between steps", "before the step"])
def test_trained_ids_go_on_as_if_the_pool_had_not_grown(gradients, when):
    model, optimizer = stepped(gradients)
    other, oracle = stepped(gradients)
    inputs = batch(*TRAINED, seed=5)
    if when == "between steps":
        grow(model, ROWS, trained=TRAINED)
    for m in (model, other):
        backward(m, inputs)
    if when == "before the step":
        grow(model, ROWS, trained=TRAINED)
    _, fresh = old_and_new(model, optimizer)
    for o in (optimizer, oracle):
        o.step()
        o.zero_grad()
    assert_bitwise(shared(model, optimizer), shared(other, oracle))
    old, new = old_and_new(model, optimizer)
    assert_bitwise(old, sink_tensors(other, oracle))
    for key, value in new.items():
        assert len(value) == ROWS
        if "." in key[1]:
            assert value.eq(0).all(), key
        else:
            assert torch.equal(value, fresh[key]), key
    # And the step after.
    for m, o in ((model, optimizer), (other, oracle)):
        train(m, o, batch(*TRAINED, seed=6))
    assert_bitwise(old_and_new(model, optimizer)[0], sink_tensors(other, oracle))


@BOTH
def test_new_rows_start_as_under_a_new_optimiser(gradients):
    model, optimizer = stepped(gradients)
    grow(model, ROWS, trained=TRAINED)
    other = copy.deepcopy(model)
    oracle = made(other, gradients)
    before, untouched = old_and_new(model, optimizer)
    for m, o in ((model, optimizer), (other, oracle)):
        train(m, o, batch(NEW, seed=9))
    old, new = old_and_new(model, optimizer)
    assert_bitwise(old, before)
    assert_bitwise(new, old_and_new(other, oracle)[1])
    for layer in (0, 1):
        touched = new[layer, "down.step"].bool()
        assert 0 < int(touched.sum()) < ROWS
        moved = (new[layer, "down"] != untouched[layer, "down"]).any(1)
        assert torch.equal(moved, touched)


@BOTH
def test_growing_again_and_again(gradients):
    model, optimizer = stepped(gradients)
    for seed, rows in enumerate((ROWS, 3, 9)):
        grow(model, rows, trained=(*TRAINED, *range(100, 100 + seed)))
        train(model, optimizer, batch(1, 100 + seed, seed=seed))
    for key, value in sink_tensors(model, optimizer).items():
        assert len(value) == POOL + ROWS + 3 + 9, key
        assert value.isfinite().all(), key
    assert optimizer.skipped_steps == 0


@BOTH
def test_a_step_without_sinks_after_growth(gradients):
    model, optimizer = stepped(gradients)
    grow(model, ROWS, trained=TRAINED)
    before, _ = old_and_new(model, optimizer)
    train(model, optimizer, batch(1, seed=3, sink_mask=torch.zeros(1, 6, dtype=torch.bool)))
    assert_bitwise(old_and_new(model, optimizer)[0], before)


@pytest.mark.parametrize("steps_before_saving", [0, 1])
def test_a_grown_optimiser_is_saved_and_restored(tmp_path, steps_before_saving):
    """Also where the pool grew after the last step, so that its state is still short."""
    model, optimizer = stepped("rows")
    grow(model, ROWS, trained=TRAINED)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    train(model, optimizer, *(batch(1, NEW, seed=4) for _ in range(steps_before_saving)))
    save_optimizer(model, optimizer, schedule, tmp_path, write=True)
    other = new_model()
    grow(other, ROWS, trained=TRAINED)
    load_weights(other, whole_weights(model))
    oracle = made(other, "rows")
    load_optimizer(other, oracle, torch.optim.lr_scheduler.ConstantLR(oracle, 1.0), tmp_path)
    for m, o in ((model, optimizer), (other, oracle)):
        train(m, o, batch(2, NEW, seed=8))
    assert_bitwise(everything(model, optimizer), everything(other, oracle))
