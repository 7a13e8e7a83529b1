"""SinkAdamW against torch's AdamW, its state, its settings and its cost."""

import copy
import io

import pytest
import torch
from families import plain_model, tokens
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
from torch.utils._python_dispatch import TorchDispatchMode

from memsinks import SinkAdamW
from memsinks.errors import ConfigError
from memsinks.sinks.attach import sinks_of

# Against the oracle


@BOTH
@pytest.mark.parametrize("max_norm", [None, 0.05, 1e6], ids=["no clipping", "clipping", "a loose threshold"])
def test_agrees_with_adamw_row_by_row(gradients, max_norm):
    model, optimizer, oracle = pair(gradients, max_norm=max_norm)
    generator = torch.Generator().manual_seed(3)
    for step in range(8):
        ids = torch.randint(-3, 4, (3,), generator=generator).tolist()
        mask = torch.rand(3, 6, generator=generator) < 0.6
        mask[:, 0] = True
        inputs = batch(*ids, seed=step, sink_mask=mask)
        backward(model, inputs)
        norm = float(optimizer.grad_norm())
        optimizer.step()
        optimizer.zero_grad()
        expected = oracle.step(inputs, touched=touched_rows(*ids))
        assert norm == pytest.approx(expected, rel=1e-6)
        assert max_norm is None or (norm > max_norm) == (max_norm < 1)
        assert_agree(model, oracle, CLIPPED if max_norm == 0.05 else 1e-11)


@pytest.mark.parametrize("max_norm", [None, 0.5])
@BOTH
def test_equals_torch_adamw_when_every_row_is_touched(gradients, max_norm):
    ours, theirs = new_model(active=POOL), new_model(active=POOL)
    optimizer = SinkAdamW(
        ours, 0.01, weight_decay=0.1, sink_weight_decay=0.1, max_grad_norm=max_norm, gradients=gradients, **HYPER
    )
    matrices = [p for n, p in theirs.named_parameters() if p.ndim >= 2]
    vectors = [p for n, p in theirs.named_parameters() if p.ndim < 2]
    stock = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=0.01, **HYPER
    )
    for step in range(6):
        inputs = batch(1, 2, seed=step)
        train(ours, optimizer, inputs)
        backward(theirs, inputs)
        if max_norm is not None:
            assert torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm) > max_norm
        stock.step()
        stock.zero_grad()
    own = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, own[name], atol=1e-11 if max_norm is None else CLIPPED, rtol=0, msg=name)


def test_equals_torch_adamw_on_a_model_without_sinks():
    ours, theirs = plain_model("llama"), plain_model("llama")
    optimizer = SinkAdamW(ours, 0.01, weight_decay=0.0, max_grad_norm=None, **HYPER)
    stock = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0, fused=True, **HYPER)
    x = tokens()
    for _ in range(3):
        for model, opt in ((ours, optimizer), (theirs, stock)):
            model(input_ids=x, labels=x).loss.backward()
            opt.step()
            opt.zero_grad()
    assert_bitwise(dict(ours.named_parameters()), dict(theirs.named_parameters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_gradients_equal_dense_gradients(dtype):
    runs = []
    for gradients in ("rows", "dense"):
        model = new_model(dtype)
        options = {"weight_decay": 0.1, "sink_weight_decay": 0.1, "max_grad_norm": 0.3, "sink_lr_multiplier": 5}
        optimizer = SinkAdamW(model, 0.01, gradients=gradients, **options, **HYPER)
        train(model, optimizer, *(batch(s % 4, -s, s % 2, seed=s) for s in range(8)))
        runs.append(everything(model, optimizer))
    assert runs[0].keys() == runs[1].keys()
    for key, value in runs[0].items():
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(value, runs[1][key], atol=tolerance, rtol=0, msg=key)


# Saving


@BOTH
@pytest.mark.parametrize("through_file", [False, True], ids=["in memory", "torch.save"])
def test_resuming_continues_bitwise(gradients, through_file):
    def start():
        model = new_model(torch.float32)
        options = {"weight_decay": 0.1, "sink_lr_multiplier": 5, "sink_weight_decay": 0.1, "max_grad_norm": 0.5}
        optimizer = SinkAdamW(model, 0.01, gradients=gradients, **options)
        return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def go_on(model, optimizer, scheduler, steps):
        for s in steps:
            train(model, optimizer, batch(s, s % 3, seed=s))
            scheduler.step()

    whole = start()
    go_on(*whole, range(7))
    first = start()
    go_on(*first, range(3))
    saved = [part.state_dict() for part in first]
    if through_file:
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        buffer.seek(0)
        saved = torch.load(buffer, weights_only=True)
    else:
        saved = copy.deepcopy(saved)
    second = start()
    for part, state in zip(second, saved, strict=True):
        part.load_state_dict(state)
    for sinks in sinks_of(second[0]):
        assert second[1].state[sinks.up]["step"].dtype == torch.int64
    go_on(*second, range(3, 7))
    assert_bitwise(everything(*second[:2]), everything(*whole[:2]))


# Settings


def test_sinks_have_their_own_rate_and_decay_and_follow_the_schedule():
    model = new_model()
    optimizer = SinkAdamW(model, 0.01, weight_decay=0.1, sink_lr_multiplier=5, sink_weight_decay=0.3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    group_of = {p: g for g in optimizer.param_groups for p in g["params"]}
    assert group_of.keys() == set(model.parameters())
    backward(model, batch(1))
    optimizer.step()
    scheduler.step()
    for name, parameter in model.named_parameters():
        sink = ".sinks." in name
        assert group_of[parameter]["lr"] == pytest.approx(0.5 * (0.05 if sink else 0.01))
        assert group_of[parameter]["weight_decay"] == (0.3 if sink else 0.1 if parameter.ndim >= 2 else 0.0)


def test_the_schedule_scales_the_step_of_sinks():
    """Adam's first step is the learning rate, whatever the size of the gradient."""
    model = new_model()
    optimizer = SinkAdamW(model, 0.01, eps=0.0, sink_lr_multiplier=5, max_grad_norm=None)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.25)
    before = sink_tensors(model, optimizer)
    train(model, optimizer, batch(1))
    for layer, sinks in enumerate(sinks_of(model)):
        rows = sorted(touched_rows(1)[layer])
        moved = (sinks.down.detach() - before[layer, "down"])[rows].abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.0125), atol=1e-9, rtol=0)


def test_the_dense_kernel_takes_dense_gradients():
    model = new_model(kernel="dense")
    with pytest.raises(ConfigError, match="gradients='dense' or kernel='gathered'"):
        SinkAdamW(model, gradients="rows")
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5)
    train(model, optimizer, batch(5, 6))
    before = sink_tensors(model, optimizer)
    train(model, optimizer, batch(1))
    assert_only(before, sink_tensors(model, optimizer), touched_rows(1))


def test_a_closure_is_called_with_gradients_on():
    model, optimizer = new_model(), None
    optimizer = SinkAdamW(model)
    before = sink_tensors(model, optimizer)

    def closure():
        loss = model(**batch(1)).loss
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert_only(before, sink_tensors(model, optimizer), touched_rows(1))


# Cost


class PoolSized(TorchDispatchMode):
    """Notes operations whose result is a new dense tensor with a dimension as long as the pool."""

    def __init__(self, pool: int, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.pool, self.known = pool, {t.untyped_storage().data_ptr() for t in known}
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            new = isinstance(t, torch.Tensor) and t.layout == torch.strided and self.pool in t.shape
            if new and t.untyped_storage().data_ptr() not in self.known:
                self.found.append(f"{func} {tuple(t.shape)}")
        return out


@BOTH
def test_the_cost_of_a_step_follows_the_rows_touched(gradients):
    pool = 4099
    model = new_model(torch.float32, pool=pool)
    optimizer = SinkAdamW(model, 0.01, gradients=gradients, sink_weight_decay=0.1)
    train(model, optimizer, batch(1, 2))
    known = [t for p in model.parameters() for t in (p, *optimizer.state[p].values())]
    with PoolSized(pool, known) as watch:
        backward(model, batch(3, 4, 3))
        if gradients == "rows":
            rows = touched_rows(3, 4, pool=pool)
            optimizer.grad_norm()
            for layer, sinks in enumerate(sinks_of(model)):
                for parameter in sinks.parameters():
                    assert parameter.grad.is_sparse
                    assert parameter.grad._nnz() == len(rows[layer])
                    assert set(parameter.grad.indices()[0].tolist()) == rows[layer]
        optimizer.step()
        optimizer.zero_grad()
    if gradients == "rows":
        assert watch.found == []
    else:
        # The watch sees what it should: dense gradients are as long as the pool.
        assert watch.found
