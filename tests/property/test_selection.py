"""Selection: exactly k distinct rows for every ID, as good as random draws, and the same for ever.

Statistical tests have fixed seeds, so they give the same answer in every run. Their thresholds are about five standard
errors, or p-values of 1e-5: a fair selection passes all of them together with a chance of over 0.999.
"""

import hashlib
import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from selection_reference import reference_select

from memsinks.ids import to_tensor
from memsinks.sinks.selection import select

GOLDEN = Path(__file__).parents[1] / "golden" / "selection.json"
GOLDEN_SHA256 = "4b5f64ea2440679d66a70c6ed0983e8aa944faa91949680e79136bea6ee11a17"

uint64 = st.one_of(st.sampled_from((0, 1, 2**63 - 1, 2**63, 2**64 - 1)), st.integers(0, 2**64 - 1))


@st.composite
def shapes(draw, largest=300):
    """pool, active and block; small pools often, and pools next to squares, where the permutation's domain jumps."""
    block = draw(st.sampled_from([1, 1, 2, 8]))
    near_square = st.integers(1, math.isqrt(largest)).flatmap(lambda n: st.sampled_from([n * n, n * n + 1]))
    size = draw(st.one_of(st.integers(1, 9), near_square, st.integers(1, largest)))
    count = draw(st.one_of(st.just(size), st.integers(1, size)))
    return {"pool": size * block, "active": count * block, "block": block}


@settings(max_examples=200, deadline=None)
@given(shapes(2000), st.lists(uint64, min_size=1, max_size=4), st.integers(0, 2**63 - 1))
def test_every_id_gets_exactly_k_distinct_rows_in_range(shape, ids, seed):
    rows = select(to_tensor(ids), seed=seed, layers=2, **shape)
    assert rows.dtype == torch.int64
    assert rows.shape == (2, len(ids), shape["active"])
    assert rows.min() >= 0
    assert rows.max() < shape["pool"]
    assert (rows.sort(-1).values.diff(dim=-1) > 0).all()
    runs = rows.unflatten(-1, (-1, shape["block"]))
    assert (runs[..., 0] % shape["block"] == 0).all()
    assert (runs - runs[..., :1] == torch.arange(shape["block"])).all()


@settings(max_examples=100, deadline=None)
@given(shapes(200), st.lists(uint64, min_size=1, max_size=3), st.integers(0, 2**63 - 1))
def test_equals_the_reference_in_unbounded_integers(shape, ids, seed):
    expected = reference_select(ids, seed=seed, layers=2, **shape)
    assert select(to_tensor(ids), seed=seed, layers=2, **shape).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(uint64, min_size=2, max_size=6), st.data())
def test_an_id_does_not_depend_on_its_batch(ids, data):
    options = {"seed": 3, "layers": 2, "pool": 50, "active": 9}
    rows = select(to_tensor(ids), **options)
    order = data.draw(st.permutations(range(len(ids))))
    assert torch.equal(select(to_tensor([ids[i] for i in order]), **options), rows[:, order])
    one = data.draw(st.sampled_from(range(len(ids))))
    assert torch.equal(select(to_tensor(ids[one : one + 1]), **options)[:, 0], rows[:, one])


def test_layers_are_the_same_however_many_there_are():
    few, many = (select(torch.arange(20), seed=1, layers=n, pool=60, active=7) for n in (2, 9))
    assert torch.equal(few, many[:2])


def test_fewer_active_sinks_are_a_prefix_of_more():
    """Cost and choice do not depend on what is left out: the k first images of one permutation."""
    few, many = (select(torch.arange(20), seed=1, layers=2, pool=60, active=k) for k in (7, 60))
    assert torch.equal(few, many[..., :7])
    assert torch.equal(many.sort(-1).values, torch.arange(60).expand(2, 20, 60))


def test_frozen_values():
    """These rows address trained models: never write the file again, see ``selection_reference.py``."""
    content = GOLDEN.read_bytes()
    assert hashlib.sha256(content).hexdigest() == GOLDEN_SHA256, f"{GOLDEN} is frozen; restore it"
    cases = json.loads(content)
    assert len(cases) == 132
    for case in cases:
        expected = case.pop("rows")
        rows = select(to_tensor([int(case.pop("id"), 16)]), **case)
        assert rows[:, 0].tolist() == expected


def random_ids(count: int, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)
    return torch.from_numpy(values.view(np.int64))


def use_p_value(rows: torch.Tensor, pool: int) -> float:
    """Chi-square of the use of each row by IDs that choose k of them without replacement.

    Such counts vary less than independent draws, and sum to a constant, by the factor (1 - k/N) / (1 - 1/N).
    """
    ids, active = rows.shape
    counts = torch.bincount(rows.flatten(), minlength=pool).double()
    expected = ids * active / pool
    statistic = float(((counts - expected) ** 2 / expected).sum()) * (pool - 1) / (pool - active)
    # Too even is as bad as too uneven.
    return 2 * min(stats.chi2.sf(statistic, pool - 1), stats.chi2.cdf(statistic, pool - 1))


@pytest.mark.parametrize("kind", ["consecutive", "random", "strided"])
@pytest.mark.parametrize(("pool", "active"), [(97, 5), (768, 20), (5, 2), (16, 3)])
def test_rows_are_used_evenly(kind, pool, active):
    ids = {
        "consecutive": torch.arange(100_000),
        "random": random_ids(100_000),
        "strided": torch.arange(100_000) * 2**40,
    }[kind]
    rows = select(ids, seed=0, layers=1, pool=pool, active=active)[0]
    assert use_p_value(rows, pool) > 1e-5
    # Each place in the order is even by itself, not only the set.
    assert use_p_value(rows[:, :1], pool) > 1e-5


def overlaps(left: torch.Tensor, right: torch.Tensor, pool: int) -> torch.Tensor:
    """Rows that each pair shares."""
    member = torch.zeros(len(left), pool, dtype=torch.bool).scatter_(1, left, True)
    return member.gather(1, right).sum(1)


def assert_hypergeometric(shared: torch.Tensor, pool: int, active: int) -> None:
    """Mean, variance and the whole distribution are those of two independent choices of k rows out of N."""
    values = shared.double().numpy()
    n = len(values)
    mean, variance, _, excess = (float(m) for m in stats.hypergeom.stats(pool, active, active, moments="mvsk"))
    assert mean == pytest.approx(active**2 / pool)
    assert abs(values.mean() - mean) < 5 * math.sqrt(variance / n)
    assert abs(values.var(ddof=1) - variance) < 5 * variance * math.sqrt((excess + 2) / n)
    expected = stats.hypergeom.pmf(np.arange(active + 1), pool, active, active) * n
    counts = np.bincount(shared.numpy(), minlength=active + 1).astype(float)
    likely = expected >= 10
    bins_e = np.append(expected[likely], expected[~likely].sum())
    bins_c = np.append(counts[likely], counts[~likely].sum())
    if bins_e[-1] < 5:
        assert bins_c[-1] < 25
        bins_e, bins_c = bins_e[:-1], bins_c[:-1] * 1.0
        bins_e *= bins_c.sum() / bins_e.sum()
    if len(bins_e) > 1:
        assert stats.chisquare(bins_c, bins_e).pvalue > 1e-5


PAIRS = {
    "random": lambda x: random_ids(len(x), seed=9),
    "next": lambda x: x + 1,
    "doubled": lambda x: x * 2,
    "negated": lambda x: -x,
    "complement": lambda x: ~x,
    "lowest bit flipped": lambda x: x ^ 1,
    "bit 31 flipped": lambda x: x ^ (1 << 31),
    "bit 32 flipped": lambda x: x ^ (1 << 32),
    "highest bit flipped": lambda x: x ^ -(2**63),
    "byte order reversed": lambda x: torch.from_numpy(x.numpy().byteswap()),
    "plus the golden ratio": lambda x: x + (0x9E3779B97F4A7C15 - 2**64),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize(("pool", "active"), [(97, 29), (768, 24)])
@pytest.mark.parametrize("small", [True, False], ids=["small IDs", "hashed IDs"])
def test_overlap_of_related_ids_is_ideal(kind, pool, active, small):
    # Even small IDs, so that no ID is in two pairs "x, x + 1" and the pairs are independent.
    left = torch.arange(2, 10_002) * 2 if small else random_ids(10_000)
    right = PAIRS[kind](left)
    rows = [select(ids, seed=0, layers=1, pool=pool, active=active)[0] for ids in (left, right)]
    assert_hypergeometric(overlaps(*rows, pool), pool, active)


@pytest.mark.parametrize("bit", range(0, 64, 7))
def test_overlap_under_every_bit(bit):
    left = random_ids(8_000, seed=bit)
    right = left ^ (-(2**63) if bit == 63 else 1 << bit)
    rows = [select(ids, seed=4, layers=1, pool=97, active=20)[0] for ids in (left, right)]
    assert_hypergeometric(overlaps(*rows, 97), 97, 20)


@pytest.mark.parametrize("ids", [torch.arange(10_000), random_ids(10_000)], ids=["consecutive", "hashed"])
def test_layers_choose_independently(ids):
    rows = select(ids, seed=0, layers=5, pool=97, active=29)
    for one, other in combinations(range(5), 2):
        assert_hypergeometric(overlaps(rows[one], rows[other], 97), 97, 29)


@pytest.mark.parametrize("seeds", [(0, 1), (0, 2**62), (1, 2), (7, 14)])
@pytest.mark.parametrize("layers", [(0, 0), (0, 1), (1, 0)])
def test_seeds_choose_independently(seeds, layers):
    ids = torch.arange(10_000)
    rows = [select(ids, seed=s, layers=2, pool=97, active=29)[layer] for s, layer in zip(seeds, layers, strict=True)]
    assert_hypergeometric(overlaps(*rows, 97), 97, 29)


@pytest.mark.parametrize(("pool", "active"), [(3, 2), (4, 2), (5, 2), (5, 3), (7, 2), (15, 2), (16, 2), (25, 2)])
def test_every_set_of_a_small_pool_is_equally_likely(pool, active):
    """A small Feistel domain is where a permutation is farthest from random."""
    rows = select(torch.arange(400_000), seed=0, layers=2, pool=pool, active=active)
    for by_layer in rows.sort(-1).values:
        code = (by_layer * pool ** torch.arange(active)).sum(-1)
        found = dict(zip(*(t.tolist() for t in torch.unique(code, return_counts=True)), strict=True))
        every = [sum(r * pool**i for i, r in enumerate(s)) for s in combinations(range(pool), active)]
        assert set(found) <= set(every)
        assert stats.chisquare([found.get(code, 0) for code in every]).pvalue > 1e-5


@pytest.mark.parametrize("pool", [97, 768])
def test_every_pair_of_rows_meets_equally_often(pool):
    """Over pairs of rows, the counts of IDs that choose both have the variance of independent choices."""
    active = 12
    rows = select(torch.arange(30_000), seed=0, layers=1, pool=pool, active=active)[0]
    member = torch.zeros(len(rows), pool).scatter_(1, rows, 1)
    together = member.T @ member
    counts = together[tuple(torch.triu_indices(pool, pool, 1))].double()
    p = active * (active - 1) / (pool * (pool - 1))
    assert counts.mean().item() == pytest.approx(len(rows) * p, rel=1e-9)
    ratio = counts.var().item() / (len(rows) * p * (1 - p))
    # Pairs that share a row are correlated, positively and negatively; the spread of the ratio stays close to this.
    assert abs(ratio - 1) < 0.1


def test_id_zero_is_an_id_like_any_other():
    rows = select(torch.tensor([0, 0, 1]), seed=0, layers=8, pool=230, active=69)
    assert rows.shape[-1] == 69
    assert torch.equal(rows[:, 0], rows[:, 1])
    assert not torch.equal(rows[:, 0].sort().values, rows[:, 2].sort().values)
    assert len({tuple(r.sort().values.tolist()) for r in rows[:, 0]}) == 8


def test_no_id_gives_no_rows():
    assert select(torch.empty(0, dtype=torch.int64), seed=0, layers=2, pool=9, active=3).shape == (2, 0, 3)
