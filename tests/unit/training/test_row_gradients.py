"""Sums of row-sparse gradients against ``coalesce``, and how often an optimiser step waits for a GPU."""

from collections import Counter

import pytest
import torch
from families import sink_model, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from memsinks import SinkAdamW
from memsinks.training.row_gradients import sum_rows


class Layer(nn.Module):
    """Parameters with given rows in their gradients, as sinks have them after a backward pass."""

    def __init__(self, pool, selections, widths, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for number, (rows, width) in enumerate(zip(selections, widths, strict=True)):
            parameter = nn.Parameter(torch.zeros(pool, width))
            # Columns of a wider matrix, as the gradients of a gate and a projection that were computed as one.
            values = torch.randn(len(rows), width + 2, generator=generator)[:, 1:-1]
            indices = torch.tensor(rows, dtype=torch.int64)[None]
            parameter.grad = torch.sparse_coo_tensor(indices, values, parameter.shape, check_invariants=False)
            self.register_parameter(f"p{number}", parameter)


@st.composite
def layers(draw):
    pool = draw(st.integers(1, 9))
    rows = st.lists(st.integers(0, pool - 1), max_size=20)
    selections = draw(st.lists(rows, min_size=1, max_size=3))
    widths = [draw(st.sampled_from([1, 5])) for _ in selections]
    return Layer(pool, selections, widths, draw(st.integers(0, 99)))


@given(st.lists(layers(), max_size=3))
@settings(deadline=None)
def test_sums_are_those_of_coalesce(found):
    expected = [parameter.grad.coalesce() for layer in found for parameter in layer.parameters()]
    sum_rows(found)
    actual = [parameter.grad for layer in found for parameter in layer.parameters()]
    for want, got in zip(expected, actual, strict=True):
        assert got.is_coalesced()
        assert got.shape == want.shape
        assert torch.equal(got.indices(), want.indices())
        torch.testing.assert_close(got.values(), want.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_sums_of_every_type_that_models_have(dtype):
    layer = Layer(4, [[3, 1, 3, 0]], [5], seed=0).to(dtype)
    layer.p0.grad = layer.p0.grad.to(dtype)
    expected = layer.p0.grad.coalesce().values()
    sum_rows([layer])
    assert layer.p0.grad.dtype == dtype
    torch.testing.assert_close(layer.p0.grad.values(), expected)


def test_other_gradients_stay_as_they_are():
    layer = Layer(4, [[1, 1, 3], [2], [2], [0]], [2, 2, 2, 2], seed=0)
    layer.p1.grad = layer.p1.grad.coalesce()
    layer.p2.grad = layer.p2.grad.to_dense()
    layer.p3.grad = None
    kept = [layer.p1.grad, layer.p2.grad]
    sum_rows([layer])
    assert layer.p0.grad.is_coalesced()
    assert layer.p1.grad is kept[0]
    assert layer.p2.grad is kept[1]
    assert layer.p3.grad is None


WAITING = ("_coalesce", "_unique2", "unique_consecutive", "nonzero", "_local_scalar_dense", "masked_select", "equal")
"""Operators whose result's size or value the program needs, so that it waits for a GPU."""


class Waits(TorchDispatchMode):
    """Counts operators that make the program wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in WAITING or boolean:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def waits(layers, passes):
    """Of one optimiser step after several passes."""
    model = sink_model("llama", overrides={"num_hidden_layers": layers}).train()
    optimizer = SinkAdamW(model, 1e-2)
    for number in range(passes):
        batch = tokens(rows=2, seed=number)
        model(input_ids=batch, labels=batch, sequence_ids=torch.tensor([1, number])).loss.backward()
    with Waits() as counted:
        optimizer.step()
    return counted.counts


@pytest.mark.parametrize("passes", [1, 3])
def test_a_step_waits_for_a_gpu_as_often_whatever_the_number_of_layers(passes):
    few, many = waits(2, passes), waits(6, passes)
    assert few == many
    assert many["unique_consecutive"] == 1
