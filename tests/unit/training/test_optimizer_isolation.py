"""SinkAdamW: idle rows never move, touched rows move exactly as under AdamW."""

from contextlib import nullcontext

import pytest
import torch
from families import LAYERS
from optimizer_oracle import (
    BOTH,
    CLIPPED,
    HYPER,
    POOL,
    assert_agree,
    assert_bitwise,
    assert_only,
    backward,
    batch,
    everything,
    new_model,
    pair,
    sink_tensors,
    touched_rows,
    train,
)

import memsinks
from memsinks import Mode, SinkAdamW
from memsinks.sinks.attach import sinks_of


@BOTH
def test_idle_rows_keep_their_bits_after_large_momentum_and_with_decay(gradients):
    model = new_model(torch.float32)
    optimizer = SinkAdamW(model, 0.1, weight_decay=0.5, sink_weight_decay=0.5, gradients=gradients)
    train(model, optimizer, *(batch(5, 6, 7, seed=s) for s in range(5)))
    before = sink_tensors(model, optimizer)
    train(model, optimizer, batch(-9))
    assert_only(before, sink_tensors(model, optimizer), touched_rows(-9))
    train(model, optimizer, batch(-9), batch(8))
    after = sink_tensors(model, optimizer)
    rows = [a | b for a, b in zip(touched_rows(-9), touched_rows(8), strict=True)]
    assert_only(before, after, rows)
    assert any((rows[layer] & touched_rows(5, 6, 7)[layer]) for layer in range(LAYERS)), "some rows had momentum"


@BOTH
def test_rows_never_touched_have_no_state(gradients):
    model = new_model()
    optimizer = SinkAdamW(model, gradients=gradients)
    train(model, optimizer, batch(4), batch(4, seed=1))
    for layer, sinks in enumerate(sinks_of(model)):
        for parameter in sinks.parameters():
            state = optimizer.state[parameter]
            assert {int(r) for r in state["step"].nonzero()} == touched_rows(4)[layer]
            assert set(state["step"].tolist()) == {0, 2}
            assert {int(r) for r in state["exp_avg_sq"].any(1).nonzero()} == touched_rows(4)[layer]


@BOTH
def test_a_touched_row_whose_gradient_is_zero_is_stepped_as_by_adamw(gradients):
    model, optimizer, oracle = pair(gradients)
    for step in range(3):
        train(model, optimizer, batch(1, 2, seed=step))
        oracle.step(batch(1, 2, seed=step), touched=touched_rows(1, 2))
    before = sink_tensors(model, optimizer)
    inputs = batch(1)
    backward(model, inputs, factor=0.0)
    assert not any(p.grad.to_dense().any() for sinks in sinks_of(model) for p in sinks.parameters())
    optimizer.step()
    optimizer.zero_grad()
    oracle.step(inputs, touched=touched_rows(1), factor=0.0)
    assert_agree(model, oracle)
    # Momentum and decay moved exactly the touched rows.
    weights = {k: v for k, v in before.items() if "." not in k[1]}
    assert_only(weights, {k: v for k, v in sink_tensors(model, optimizer).items() if k in weights}, touched_rows(1))


@BOTH
def test_a_row_without_labels_still_touches_its_sinks(gradients):
    model, optimizer, oracle = pair(gradients)
    inputs = batch(1, 6)
    inputs["labels"] = inputs["labels"].clone()
    inputs["labels"][1] = -100
    only = [b - a for a, b in zip(touched_rows(1), touched_rows(6), strict=True)]
    assert any(only), "ID 6 has sinks of its own"
    for seed in range(3):
        train(model, optimizer, batch(6, seed=seed))
        oracle.step(batch(6, seed=seed), touched=touched_rows(6))
    before = sink_tensors(model, optimizer)
    train(model, optimizer, inputs)
    oracle.step(inputs, touched=touched_rows(1, 6))
    assert_agree(model, oracle)
    assert_only(before, sink_tensors(model, optimizer), touched_rows(1, 6))


@BOTH
def test_two_ids_that_share_rows(gradients):
    one, other = touched_rows(1), touched_rows(3)
    shared = [a & b for a, b in zip(one, other, strict=True)]
    assert any(shared)
    assert all(a != b for a, b in zip(one, other, strict=True))
    model, optimizer, oracle = pair(gradients, max_norm=0.5)
    for step in range(3):
        train(model, optimizer, batch(1, 3, seed=step))
        oracle.step(batch(1, 3, seed=step), touched=touched_rows(1, 3))
    before = sink_tensors(model, optimizer)
    train(model, optimizer, batch(3, seed=9))
    assert_only(before, sink_tensors(model, optimizer), other)
    oracle.step(batch(3, seed=9), touched=other)
    assert_agree(model, oracle, CLIPPED)
    for layer, sinks in enumerate(sinks_of(model)):
        steps = optimizer.state[sinks.up]["step"]
        for row in range(POOL):
            assert steps[row] == 3 * (row in one[layer] | other[layer]) + (row in other[layer])


@BOTH
def test_two_micro_batches_in_one_step(gradients):
    model, optimizer, oracle = pair(gradients, max_norm=0.5)
    for step in range(4):
        micro = (batch(step, 1, seed=step), batch(1, -step, seed=step + 50))
        before = sink_tensors(model, optimizer)
        for inputs in micro:
            backward(model, inputs)
        norm = float(optimizer.grad_norm())
        optimizer.step()
        optimizer.zero_grad()
        touched = touched_rows(step, 1, -step)
        assert_only(before, sink_tensors(model, optimizer), touched)
        assert norm == pytest.approx(oracle.step(*micro, touched=touched), rel=1e-6)
        assert_agree(model, oracle, CLIPPED)


@BOTH
def test_the_norm_may_be_read_between_micro_batches(gradients):
    model, optimizer, oracle = pair(gradients, max_norm=0.05)
    micro = (batch(1, 2), batch(2, 3, seed=1))
    for inputs in micro:
        backward(model, inputs)
        norm = float(optimizer.grad_norm())
    assert norm == pytest.approx(oracle.step(*micro, touched=touched_rows(1, 2, 3)), rel=1e-6)
    optimizer.step()
    assert_agree(model, oracle, CLIPPED)


@BOTH
def test_the_norm_of_a_discarded_batch_is_forgotten(gradients):
    model, optimizer, oracle = pair(gradients, max_norm=0.05)
    backward(model, batch(1), factor=1000.0)
    optimizer.grad_norm()
    optimizer.zero_grad()
    train(model, optimizer, batch(1))
    oracle.step(batch(1), touched=touched_rows(1))
    assert_agree(model, oracle, CLIPPED)


@BOTH
@pytest.mark.parametrize("discard", ["gradient", "forward only"])
def test_a_discarded_batch_touches_nothing(gradients, discard):
    """Only what goes into the step counts: not a batch whose gradient was zeroed, not a probe outside ``no_grad``."""
    model = new_model()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)
    train(model, optimizer, *(batch(5, 6, 7, seed=s) for s in range(3)))
    before = sink_tensors(model, optimizer)
    if discard == "gradient":
        backward(model, batch(5, 6, 7))
        optimizer.zero_grad()
    else:
        model(**batch(5, 6, 7))
    train(model, optimizer, batch(1))
    assert_only(before, sink_tensors(model, optimizer), touched_rows(1))


# Tokens without sinks


@BOTH
def test_padding_and_masked_tokens_touch_nothing(gradients):
    model = new_model()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)
    train(model, optimizer, *(batch(1, 2, 3, 4, seed=s) for s in range(3)))
    before = sink_tensors(model, optimizer)
    inputs = batch(0, 0, 0)
    ids = torch.tensor([[1] * 3 + [2] * 3, [3] * 6, [4] * 2 + [1] * 4])
    sink_mask = torch.ones(3, 6, dtype=torch.bool)
    sink_mask[1] = False
    attention = torch.ones(3, 6, dtype=torch.int64)
    attention[2, :2] = 0
    inputs.update(sequence_ids=ids, sink_mask=sink_mask, attention_mask=attention)
    inputs["labels"] = inputs["labels"].masked_fill(attention == 0, -100)
    train(model, optimizer, inputs)
    assert_only(before, sink_tensors(model, optimizer), touched_rows(1, 2))


@pytest.mark.parametrize("kind", ["masked", "off"])
@BOTH
def test_a_step_that_uses_no_sink(gradients, kind):
    model = new_model()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)
    train(model, optimizer, batch(1, 2))
    before, shared = sink_tensors(model, optimizer), model.lm_head.weight.detach().clone()
    inputs = batch(1, 2, sink_mask=torch.zeros(2, dtype=torch.bool))
    with memsinks.sinks_off(model) if kind == "off" else nullcontext():
        train(model, optimizer, inputs)
    assert_only(before, sink_tensors(model, optimizer), [set()] * LAYERS)
    assert not torch.equal(model.lm_head.weight, shared)
    if kind == "masked":
        # DDP needs a gradient for every parameter, whatever the data.
        backward(model, inputs)
        assert all(p.grad is not None for p in model.parameters())


@BOTH
def test_sets_of_different_sizes_touch_only_their_own_rows(gradients):
    """Smaller sets are padded inside a batch; what pads them is not selected, and must not move."""
    own, first = next(
        (i, j) for i in range(100) for j in range(100) if all(0 not in rows for rows in touched_rows(i, j, j + 1))
    )
    chosen = Mode("chosen", (first, first + 1))
    model = new_model()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)
    with memsinks.use_sinks(model, "all"):
        train(model, optimizer, batch(0, 0))
    before = sink_tensors(model, optimizer)
    with memsinks.use_sinks(model, ["own", chosen]):
        train(model, optimizer, batch(own, 0))
    assert_only(before, sink_tensors(model, optimizer), touched_rows(own, first, first + 1))


# A step that is left out


@BOTH
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["everywhere", "shared", "sinks"])
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_a_non_finite_gradient_changes_nothing(gradients, bad, where, max_norm):
    runs = []
    for interrupted in (False, True):
        model = new_model(torch.float32)
        optimizer = SinkAdamW(model, 0.01, max_grad_norm=max_norm, gradients=gradients, sink_weight_decay=0.1)
        train(model, optimizer, batch(1, 2))
        before = everything(model, optimizer)
        if interrupted:
            backward(model, batch(3), factor=bad if where == "everywhere" else 1.0)
            sinks = next(sinks_of(model))
            grad = model.model.norm.weight.grad if where == "shared" else sinks.down.grad
            if where != "everywhere":
                (grad._values() if grad.is_sparse else grad).view(-1)[0] = bad
            optimizer.step()
            optimizer.zero_grad()
            assert_bitwise(everything(model, optimizer), before)
        assert optimizer.skipped_steps == int(interrupted)
        train(model, optimizer, batch(1, 4, seed=2))
        assert optimizer.skipped_steps == int(interrupted)
        runs.append(everything(model, optimizer))
    assert_bitwise(*runs)
    assert all(v.isfinite().all() for v in runs[0].values())


def test_skipped_steps_are_part_of_the_state():
    model = new_model()
    optimizer = SinkAdamW(model)
    backward(model, batch(1), factor=float("nan"))
    optimizer.step()
    other = SinkAdamW(new_model())
    other.load_state_dict(optimizer.state_dict())
    assert other.skipped_steps == 1


@BOTH
@pytest.mark.parametrize("reentrant", [False, True], ids=["", "reentrant"])
def test_gradient_checkpointing_changes_nothing(gradients, reentrant):
    runs = []
    for checkpointing in (False, True):
        model = new_model()
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": reentrant})
        optimizer = SinkAdamW(model, 0.01, gradients=gradients, sink_weight_decay=0.1, **HYPER)
        for s in range(3):
            before = sink_tensors(model, optimizer)
            backward(model, batch(s, 1, seed=s))
            backward(model, batch(s + 9, seed=s))
            optimizer.step()
            optimizer.zero_grad()
            assert_only(before, sink_tensors(model, optimizer), touched_rows(s, 1, s + 9))
        runs.append(everything(model, optimizer))
    for key, value in runs[0].items():
        torch.testing.assert_close(value, runs[1][key], atol=1e-10, rtol=0, msg=key)
