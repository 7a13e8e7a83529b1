"""SinkAdamW: idle rows never move, touched rows move exactly as under AdamW.

The oracle holds every sink row as a parameter of its own in ``torch.optim.AdamW``, which passes over parameters
without a gradient. Gradients are ordinary autograd ones, clipping is torch's, and which rows are touched comes from the
reference selection in plain Python; nothing of the optimiser under test is used.
"""

import copy
import io
from contextlib import nullcontext

import pytest
import torch
from families import LAYERS, plain_model, sink_model, tokens
from selection_reference import reference_rows
from torch.utils._python_dispatch import TorchDispatchMode

import memsinks
from memsinks import Mode, SinkAdamW
from memsinks.errors import ConfigError
from memsinks.sinks.attach import sinks_of

POOL, ACTIVE = 12, 3
BOTH = pytest.mark.parametrize("gradients", ["rows", "dense"])
CLIPPED = 5e-6
"""Tolerance where clipping is active: the norm is kept in float32, and gradients near Adam's eps amplify that."""
HYPER = {"betas": (0.8, 0.95), "eps": 1e-6}


def new_model(dtype=torch.float64, **options):
    return sink_model("llama", dtype=dtype, **{"pool": POOL, "active": ACTIVE, **options}).train()


def batch(*ids: int, seed: int = 0, **options) -> dict:
    x = tokens(rows=len(ids), length=6, seed=seed)
    return {"input_ids": x, "labels": x, "sequence_ids": torch.tensor(ids), **options}


def backward(model, inputs: dict, factor: float = 1.0) -> None:
    (model(**inputs, use_cache=False).loss * factor).backward()


def train(model, optimizer, *batches: dict) -> None:
    for inputs in batches:
        backward(model, inputs)
        optimizer.step()
        optimizer.zero_grad()


def touched_rows(*ids: int, pool: int = POOL, active: int = ACTIVE) -> list[set[int]]:
    return [
        {row for i in ids for row in reference_rows(i % 2**64, seed=0, layer=layer, pool=pool, active=active)}
        for layer in range(LAYERS)
    ]


def sink_tensors(model, optimizer) -> dict:
    """Every tensor that has a row for every sink: (layer, name) -> clone."""
    found = {}
    for layer, sinks in enumerate(sinks_of(model)):
        for name, parameter in sinks.named_parameters():
            found[layer, name] = parameter.detach().clone()
            for key, value in optimizer.state.get(parameter, {}).items():
                found[layer, f"{name}.{key}"] = value.clone()
    return found


def everything(model, optimizer) -> dict:
    names = {parameter: name for name, parameter in model.named_parameters()}
    state = {
        f"{names[p]}.{key}": value.clone() for p, values in optimizer.state.items() for key, value in values.items()
    }
    return {**{name: p.detach().clone() for p, name in names.items()}, **state}


def assert_bitwise(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


def assert_only(before: dict, after: dict, rows: list[set[int]]) -> None:
    """Exactly these rows differ, in every tensor (a state that is new counts as zeros before)."""
    for (layer, name), value in after.items():
        old = before.get((layer, name), torch.zeros_like(value))
        moved = {int(r) for r in (value != old).view(POOL, -1).any(1).nonzero()}
        assert moved == rows[layer], (layer, name)


class RowOracle:
    """Stock AdamW over shared parameters, and over each sink row by itself."""

    def __init__(self, model, lr, *, weight_decay, multiplier, sink_weight_decay, max_norm):
        self.model, self.max_norm = model, max_norm
        self.rows = {
            (layer, name, row): p.detach()[row].clone().requires_grad_()
            for layer, sinks in enumerate(sinks_of(model))
            for name, p in sinks.named_parameters()
            for row in range(POOL)
        }
        shared = [p for name, p in model.named_parameters() if ".sinks." not in name]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in shared if p.ndim >= 2], "weight_decay": weight_decay},
                {"params": [p for p in shared if p.ndim < 2], "weight_decay": 0},
                {"params": list(self.rows.values()), "lr": lr * multiplier, "weight_decay": sink_weight_decay},
            ],
            lr=lr,
            foreach=False,
            **HYPER,
        )
        self.shared = shared

    def step(self, *micro_batches: dict, touched: list[set[int]], factor: float = 1.0) -> float:
        for inputs in micro_batches:
            backward(self.model, inputs, factor)
        for (layer, name, row), parameter in self.rows.items():
            grad = getattr(list(sinks_of(self.model))[layer], name).grad
            is_touched = row in touched[layer]
            assert is_touched or grad is None or not grad[row].any(), "the reference misses a touched row"
            grad = torch.zeros(POOL, *parameter.shape, dtype=parameter.dtype) if grad is None else grad
            parameter.grad = grad[row].clone() if is_touched else None
        norm = torch.nn.utils.clip_grad_norm_(
            [*self.shared, *self.rows.values()], float("inf") if self.max_norm is None else self.max_norm
        )
        self.optimizer.step()
        with torch.no_grad():
            for (layer, name, row), parameter in self.rows.items():
                getattr(list(sinks_of(self.model))[layer], name)[row] = parameter
        self.model.zero_grad()
        return float(norm)


def pair(gradients, *, lr=0.01, weight_decay=0.1, multiplier=5.0, sink_weight_decay=0.2, max_norm=None):
    model = new_model()
    oracle_model = new_model()
    optimizer = SinkAdamW(
        model,
        lr,
        weight_decay=weight_decay,
        sink_lr_multiplier=multiplier,
        sink_weight_decay=sink_weight_decay,
        max_grad_norm=max_norm,
        gradients=gradients,
        **HYPER,
    )
    oracle = RowOracle(
        oracle_model,
        lr,
        weight_decay=weight_decay,
        multiplier=multiplier,
        sink_weight_decay=sink_weight_decay,
        max_norm=max_norm,
    )
    return model, optimizer, oracle


def assert_agree(model, oracle, tolerance=1e-11) -> None:
    theirs = dict(oracle.model.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], atol=tolerance, rtol=0, msg=name)


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
    stock = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0, **HYPER)
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


# Idle rows


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
