"""A small model, its batches and a row-by-row oracle for the tests of SinkAdamW.

The oracle holds every sink row as a parameter of its own in ``torch.optim.AdamW``, which passes over parameters
without a gradient. Gradients are ordinary autograd ones, clipping is torch's, and which rows are touched comes from the
reference selection in plain Python; nothing of the optimiser under test is used.
"""

import pytest
import torch
from families import LAYERS, sink_model, tokens
from selection_reference import reference_rows

from memsinks import SinkAdamW
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
