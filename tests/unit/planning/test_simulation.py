"""Simulated removals against hand-made unions of the rows that a model with sinks selects."""

import math

import numpy as np
import pytest
import torch
from families import plain_model

import memsinks
from memsinks.planning import simulation
from memsinks.planning.governed import Units
from memsinks.planning.overlap import fraction_lost, survivor_deviation
from memsinks.planning.simulation import Selector, lost_fractions, simulate
from memsinks.sinks.config import SinkConfig

IDS = np.random.default_rng(3).integers(0, 2**64, 200, dtype=np.uint64)


def selector(count=200, owners=(), **settings):
    settings = {"pool": 200, "active": 60} | settings
    config = SinkConfig(seed=1, **settings).resolve(40)
    return Selector(ids=IDS[:count], config=config, layers=4, owners=np.array(owners, dtype=np.int64))


def units_of(sizes, kind="source"):
    return Units(kind=kind, starts=np.cumsum([0, *sizes]), members=np.arange(sum(sizes)), shared=0, unnamed=0)


def sets(chosen, place):
    """The rows of an ID, a set for each layer."""
    rows = chosen.rows(chosen.table, np.array([place]))
    return [set(layer.ravel().tolist()) for layer in rows]


@pytest.mark.parametrize("settings", [{}, {"block": 4}, {"mask": "shared"}, {"layers": (1, 3)}])
def test_losses_are_counted_on_the_rows_themselves(settings):
    chosen = selector(**settings)
    gone = [sets(chosen, place) for place in (3, 8)]
    expected = []
    for place in (0, 5):
        own = sets(chosen, place)
        layers = [len(mine & (a | b)) / len(mine) for mine, a, b in zip(own, *gone, strict=True)]
        expected.append(sum(layers) / len(layers))
    assert lost_fractions(chosen, np.array([3, 8]), np.array([0, 5])) == pytest.approx(expected)


def test_the_rows_are_those_of_a_model():
    model = plain_model("llama")
    memsinks.attach(model, SinkConfig(pool=24, active=4, allocation="hybrid", owned=8, seed=7))
    memsinks.register(model, IDS[[4, 2]])
    chosen = Selector(ids=IDS, config=model.sink_config, layers=model.config.num_hidden_layers, owners=np.array([4, 2]))
    bits = torch.from_numpy(IDS[:6].view(np.int64).copy())
    rows = model.sink_allocation.rows(bits, model.sink_config, model.config.num_hidden_layers)
    assert (chosen.rows(chosen.table, np.arange(6)) == rows.numpy()).all()


def test_the_published_ratio_on_the_ids_of_a_corpus():
    """At a ratio of 0.3, 10 of 200 IDs take 97 % of the sinks of everyone else, and 20 take all but a thousandth."""
    ten, twenty = simulate(selector(), units_of([1] * 200, "id"), [10, 20], draws=60, seed=0)
    assert ten.mean == pytest.approx(0.972, abs=0.002)
    assert twenty.mean == pytest.approx(0.9992, abs=0.0005)
    assert ten.low <= ten.mean <= ten.high <= ten.worst <= 1
    assert ten.least < ten.mean < ten.most
    # Single survivors spread as the exact deviation says.
    assert ten.most - ten.least == pytest.approx(2 * 1.96 * survivor_deviation(200, 60, 10, 4), rel=0.15)


@pytest.mark.parametrize("number", [1, 4])
def test_simulation_meets_expectation(number):
    chosen = selector(pool=400, active=20)
    (found,) = simulate(chosen, units_of([1] * 200, "id"), [number], draws=200, seed=2)
    # One hash is fixed in all draws; with 200 IDs in 4 layers the mean over their pairs is sure to about 0.1 %.
    assert found.mean == pytest.approx(fraction_lost(400, 20, number), abs=0.003)
    assert found.draws == 200


def test_a_source_takes_all_its_ids():
    chosen = selector(count=12, pool=1000, active=10)
    (found,) = simulate(chosen, units_of([4, 8]), [1], draws=100, seed=0)
    both = [
        lost_fractions(chosen, gone, stay).mean()
        for gone, stay in ((np.arange(4), np.arange(4, 12)), (np.arange(4, 12), np.arange(4)))
    ]
    assert found.mean == pytest.approx(sum(both) / 2, abs=0.2 * abs(both[0] - both[1]))
    assert found.worst <= max(
        lost_fractions(chosen, np.arange(4), np.arange(4, 12)).max(),
        lost_fractions(chosen, np.arange(4, 12), np.arange(4)).max(),
    )


def test_owners_lose_nothing_and_take_nothing():
    chosen = selector(count=10, pool=120, active=20, allocation="hybrid", owned=100, owners=range(5))
    # The five that share all choose the 20 rows that are left.
    assert lost_fractions(chosen, np.arange(1, 5), np.array([0, 7])).tolist() == [0, 0]
    assert lost_fractions(chosen, np.array([8]), np.array([0, 7])).tolist() == [0, 1]
    disjoint = selector(count=10, pool=200, active=20, allocation="disjoint", owners=range(10))
    assert simulate(disjoint, units_of([1] * 10, "id"), [1, 9], draws=5, seed=0) == []
    assert lost_fractions(disjoint, np.arange(9), np.array([9])).tolist() == [0]


def test_draws_without_a_survivor_that_shares_do_not_count():
    chosen = selector(count=3, pool=120, active=20, allocation="hybrid", owned=40, owners=[0, 1])
    (found,) = simulate(chosen, units_of([1, 1, 1], "id"), [1], draws=60, seed=0)
    assert found.mean == 0
    assert 20 < found.draws < 60


def test_large_work_means_fewer_draws(monkeypatch):
    monkeypatch.setattr(simulation, "WORK", 1)
    (found,) = simulate(selector(), units_of([1] * 200, "id"), [10], draws=60, seed=0)
    assert found.draws == simulation.LEAST_DRAWS
    assert math.isclose(found.mean, 0.972, abs_tol=0.005)


def test_a_choice_of_survivors_stands_for_all(monkeypatch):
    every = simulate(selector(), units_of([1] * 200, "id"), [2], draws=50, seed=0)[0]
    monkeypatch.setattr(simulation, "SURVIVORS", 40)
    some = simulate(selector(), units_of([1] * 200, "id"), [2], draws=50, seed=0)[0]
    assert some.mean == pytest.approx(every.mean, abs=0.01)
    assert some != every
