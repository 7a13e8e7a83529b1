"""Both kernels against a loop over tokens and sinks, and against each other, in float64."""

import importlib

import pytest
import torch
from torch.nn import functional as F

from memsinks.kernels import SinkWeights, dense, gathered

POOL, HIDDEN, K = 11, 6, 4

COUNTS = {
    "equal": (3, 3, 3),
    "ragged": (5, 1, 2),
    "many short documents": tuple([1, 2, 3] * 7 + [1]),
    "one group": (7,),
    "one token each": (1,) * 9,
    "no group": (),
}
SHAPES = {
    "gated with biases": (True, True),
    "gated": (True, False),
    "plain with bias": (False, True),
    "plain": (False, False),
}


def problem(counts, gate: bool, bias: bool, scaled: bool):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    weights = SinkWeights(
        up=draw(POOL, HIDDEN),
        down=draw(POOL, HIDDEN),
        gate=draw(POOL, HIDDEN) if gate else None,
        up_bias=draw(POOL, 1) if bias else None,
        gate_bias=draw(POOL, 1) if bias and gate else None,
        act=F.silu if gate else F.gelu,
    )
    rows = torch.empty(len(counts), K, dtype=torch.int64)
    for row in rows:
        row[:] = torch.randperm(POOL, generator=generator)[:K]
    scale = None
    if scaled:
        # The first group is whole, the others are sets of fewer than K, padded as routing does: row 0, factor 0.
        scale = torch.rand(rows.shape, generator=generator, dtype=torch.float64) + 0.5
        for g in range(1, len(counts)):
            size = 1 + g % K
            rows[g, size:], scale[g, size:] = 0, 0
            if g % 2:
                # Row 0 may also be a true member of a padded set.
                rows[g, 0] = 0
    return draw(sum(counts), HIDDEN), weights, rows, scale


def by_hand(x, weights, rows, scale, counts):
    group_of = [g for g, count in enumerate(counts) for _ in range(count)]
    outputs = []
    for n, g in enumerate(group_of):
        y = torch.zeros(HIDDEN, dtype=x.dtype)
        for k, row in enumerate(rows[g].tolist()):
            h = weights.up[row] @ x[n]
            h = h if weights.up_bias is None else h + weights.up_bias[row, 0]
            if weights.gate is None:
                h = weights.act(h)
            else:
                g_in = weights.gate[row] @ x[n]
                h = weights.act(g_in if weights.gate_bias is None else g_in + weights.gate_bias[row, 0]) * h
            y = y + h * (1 if scale is None else scale[g, k]) * weights.down[row]
        outputs.append(y)
    return torch.stack(outputs) if outputs else x.new_zeros(0, HIDDEN) + x.sum()


def gradients(kernel, x, weights, rows, scale, counts, **options):
    tensors = {k: w for k, w in weights._asdict().items() if isinstance(w, torch.Tensor)}
    leaves = {k: w.detach().clone().requires_grad_() for k, w in tensors.items()}
    x = x.detach().clone().requires_grad_()
    y = kernel(x, weights._replace(**leaves), rows, scale, counts, **options)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    (y * cotangent).sum().backward()
    return y.detach(), {"x": x.grad, **{k: w.grad for k, w in leaves.items()}}


@pytest.mark.parametrize("scaled", [False, True], ids=["no scale", "scale"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("counts", COUNTS)
def test_kernels_equal_the_definition(counts, shape, scaled):
    arguments = (*problem(COUNTS[counts], *SHAPES[shape], scaled), COUNTS[counts])
    expected, expected_grads = gradients(by_hand, *arguments)
    for kernel, sparse in ((gathered, False), (gathered, True), (dense, False)):
        y, grads = gradients(kernel, *arguments, sparse=sparse)
        torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-12)
        for name, grad in expected_grads.items():
            own = grads[name]
            if sparse and name != "x":
                assert own.is_sparse, name
                own = own.to_dense()
            grad = torch.zeros_like(own) if grad is None else grad
            torch.testing.assert_close(own, grad, atol=1e-12, rtol=1e-12, msg=f"{kernel.__name__}, gradient of {name}")


@pytest.mark.parametrize("scaled", [False, True], ids=["no scale", "scale"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("counts", ["ragged", "many short documents"])
def test_groups_padded_to_one_length_give_what_they_give_one_at_a_time(counts, shape, scaled, monkeypatch):
    arguments = (*problem(COUNTS[counts], *SHAPES[shape], scaled), COUNTS[counts])
    expected, expected_grads = gradients(gathered, *arguments, sparse=True)
    module = importlib.import_module("memsinks.kernels.gathered")
    monkeypatch.setattr(module, "_by_group", module._padded)
    y, grads = gradients(gathered, *arguments, sparse=True)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-12)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(grads[name].to_dense(), grad.to_dense(), atol=1e-12, rtol=1e-12, msg=name)


@pytest.mark.parametrize("counts", ["equal", "ragged", "no group"])
def test_a_sparse_gradient_names_the_chosen_rows_and_no_other(counts):
    arguments = (*problem(COUNTS[counts], True, True, False), COUNTS[counts])
    _, grads = gradients(gathered, *arguments, sparse=True)
    chosen = arguments[2].unique()
    for name, grad in grads.items():
        if name != "x":
            assert torch.equal(grad.coalesce().indices()[0], chosen)
            assert grad._nnz() <= K * len(COUNTS[counts])


def test_dense_refuses_sparse_gradients():
    with pytest.raises(ValueError, match="row-sparse"):
        dense(*problem((2,), True, True, False), (2,), sparse=True)


@pytest.mark.parametrize("kernel", [dense, gathered])
def test_the_order_of_rows_in_a_set_does_not_matter(kernel):
    x, weights, rows, scale = problem((3, 3), True, True, True)
    y = kernel(x, weights, rows, scale, (3, 3), sparse=False)
    flipped = kernel(x, weights, rows.flip(1), scale.flip(1), (3, 3), sparse=False)
    torch.testing.assert_close(flipped, y, atol=1e-12, rtol=1e-12)


def test_the_gathered_kernel_never_computes_the_pool():
    """Idle rows of NaN would spread through any product that includes them, even times zero."""
    x, weights, rows, scale = problem((3, 1), True, True, False)
    idle = torch.ones(POOL, dtype=torch.bool)
    idle[rows.unique()] = False
    assert idle.any()
    poisoned = weights._replace(
        **{k: w.detach().clone() for k, w in weights._asdict().items() if isinstance(w, torch.Tensor)}
    )
    for tensor in poisoned[:5]:
        tensor[idle] = torch.nan
    y = gathered(x, poisoned, rows, scale, (3, 1), sparse=False)
    assert torch.equal(y, gathered(x, weights, rows, scale, (3, 1), sparse=False))
    assert dense(x, poisoned, rows, scale, (3, 1), sparse=False).isnan().all()


@pytest.mark.parametrize("counts", [COUNTS["equal"], COUNTS["ragged"]], ids=["equal", "ragged"])
@pytest.mark.parametrize("gate", [True, False], ids=["gated", "plain"])
def test_autocast_computes_in_its_type_and_keeps_gradients_in_the_parameters(counts, gate):
    x, weights, rows, scale = problem(counts, gate=gate, bias=True, scaled=True)
    expected, expected_grads = gradients(gathered, x, weights, rows, scale, counts, sparse=False)
    single = {k: w.float() for k, w in weights._asdict().items() if isinstance(w, torch.Tensor)}

    def autocast(*arguments, **options):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = gathered(*arguments, **options)
        assert y.dtype == torch.bfloat16
        # The cotangent is drawn in the type of the result.
        return y.double()

    found, grads = gradients(autocast, x.float(), weights._replace(**single), rows, scale.float(), counts, sparse=False)
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    for name, value in {"y": expected, **expected_grads}.items():
        own = {"y": found, **grads}[name].double()
        # bfloat16 keeps 8 bits; sums of a few such products stay within a few per cent of the largest entry.
        torch.testing.assert_close(own, value, atol=0.05 * float(value.abs().max()), rtol=0, msg=name)
