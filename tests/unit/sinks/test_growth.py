"""Larger pools: what old IDs keep, what new ones get, and what is refused."""

import pytest
import torch
from families import LAYERS, plain_model, sink_model, tokens
from pools import NOBODY, A, B, C, disjoint, fill_with, hybrid, logits, table_rows

import memsinks
from memsinks import SinkAdamW, SinkConfig
from memsinks.errors import ConfigError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of


@pytest.mark.parametrize("make", [lambda: sink_model("llama"), lambda: hybrid(C)], ids=["hashed", "hybrid"])
def test_trained_ids_keep_their_segment_and_others_move(make):
    model = make()
    pool = model.sink_config.pool
    ids = [A, B, C]
    before, rows = logits(model, ids), table_rows(model, *ids)
    memsinks.grow(model, 10, trained=[A, B, A])
    fill_with(model, 500)  # no row is left as it was, but the addresses are
    assert table_rows(model, A, B) == [layer[:2] for layer in rows]
    assert model.sink_config.pool == pool + 10
    others = torch.tensor(table_rows(model, *range(1000, 1200)))
    assert (others.min(), others.max()) == (pool, pool + 9)
    memsinks.grow(model, 6, trained=[NOBODY, A])
    assert table_rows(model, A, B) == [layer[:2] for layer in rows], "an earlier registration holds"
    new = torch.tensor(table_rows(model, NOBODY))
    assert (new >= pool).all()
    assert (new < pool + 10).all()
    assert torch.tensor(table_rows(model, 1000)).min() >= pool + 10
    assert logits(model, ids).shape == before.shape


@pytest.mark.parametrize("make", [lambda: sink_model("llama"), lambda: hybrid(C), lambda: disjoint(A, B, C)])
def test_growth_keeps_outputs_rows_and_parameters(make):
    model = make()
    ids = [A, B, C]
    before, old = logits(model, ids), dict(model.named_parameters())
    values = {n: p.detach().clone() for n, p in old.items()}
    memsinks.grow(model, 8, trained=ids)
    assert torch.equal(logits(model, ids), before)
    for name, parameter in model.named_parameters():
        assert parameter is old[name]
        assert torch.equal(parameter[: len(values[name])], values[name])
        if ".sinks." in name:
            assert len(parameter) == len(values[name]) + 8


def test_growth_gives_disjoint_owners_room():
    model = disjoint(A, B, C)
    with pytest.raises(ConfigError, match="4 rows more"):
        memsinks.register(model, [NOBODY])
    memsinks.grow(model, 4, trained=())
    memsinks.register(model, [NOBODY])
    assert table_rows(model, C, NOBODY) == [[[8, 9, 10, 11], [12, 13, 14, 15]]] * LAYERS
    assert (model.sink_config.pool, model.sink_config.owned) == (16, 16)


@pytest.mark.parametrize("gradients", ["rows", "dense"])
def test_growth_keeps_gradients_in_place(gradients):
    model = sink_model("llama").train()
    SinkAdamW(model, gradients=gradients)
    x = tokens(rows=2)
    model(input_ids=x, labels=x, sequence_ids=to_tensor([A, B])).loss.backward()
    before = [p.grad.to_dense().clone() for s in sinks_of(model) for p in s.parameters()]
    memsinks.grow(model, 5, trained=[A, B])
    for old, parameter in zip(before, (p for s in sinks_of(model) for p in s.parameters()), strict=True):
        new = parameter.grad.to_dense()
        assert new.shape == parameter.shape
        assert torch.equal(new[:12], old)
        assert not new[12:].any()
        assert parameter.grad.is_sparse == (gradients == "rows")


def initial(first: int, rows: int, **options):
    """Rows of a model that is attached with ``first`` rows and grown by ``rows``, as attached."""
    model = memsinks.attach(plain_model("llama"), SinkConfig(pool=first, active=4, **options))
    if rows:
        memsinks.grow(model, rows, trained=())
    return [sinks.up.detach().clone() for sinks in sinks_of(model)]


def test_new_rows_are_drawn_like_old_ones_reproducibly_and_differently():
    one, two = initial(12, 400), initial(12, 400)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a[:12], b) for a, b in zip(one, initial(12, 0), strict=True))
    assert one[0][12:].std().item() == pytest.approx(0.02, rel=0.05)
    firsts = [layer[row, 0].item() for layer in one for row in (0, 12)]
    firsts += [layer[row, 0].item() for layer in initial(16, 400) for row in (16,)]
    firsts += [layer[row, 0].item() for layer in initial(12, 400, seed=1) for row in (12,)]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize(("init", "warm"), [("noop", True), ("random", False), ("auto", False)])
def test_new_rows_start_as_the_configuration_says(init, warm):
    model = memsinks.attach(plain_model("llama"), SinkConfig(pool=12, active=4, init=init))
    memsinks.grow(model, 8, trained=())
    for sinks in sinks_of(model):
        assert bool(sinks.down[12:].any()) != warm
        assert sinks.up[12:].any()
        assert not sinks.up_bias[12:].any()


def test_a_loaded_model_grows_without_a_change_for_new_ids(tmp_path):
    memsinks.save(sink_model("llama"), tmp_path / "run")
    model = memsinks.load(tmp_path / "run")
    memsinks.grow(model, 8, trained=[A])
    off = logits(model, mode="off")
    assert torch.equal(logits(model, [NOBODY] * 3), off)
    assert not torch.equal(logits(model, [A] * 3), off)


@pytest.mark.parametrize("rows", [0, -4, 3, 2.0, True, "8"])
def test_a_growth_that_does_not_fit_is_refused(rows):
    for model in (sink_model("llama"), disjoint(A)):
        with pytest.raises(ConfigError, match="grows by at least active=4"):
            memsinks.grow(model, rows, trained=())
        assert model.sink_config.pool == 12
    with pytest.raises(ConfigError, match="multiple of active=4, not by 6"):
        memsinks.grow(disjoint(A), 6, trained=())
    with pytest.raises(ConfigError, match="multiple of block=2, not by 7"):
        memsinks.grow(sink_model("llama", block=2), 7, trained=())
    with pytest.raises(ConfigError, match="no sinks"):
        memsinks.grow(plain_model("llama"), 8, trained=())


def test_a_pool_spread_over_ranks_is_not_grown():
    model = sink_model("llama")
    next(sinks_of(model)).shard = object()
    with pytest.raises(ConfigError, match="spread over ranks"):
        memsinks.grow(model, 8, trained=())
    assert next(sinks_of(model)).up.shape[0] == 12
