"""Sinks' gradients between two ranks, in a bare loop, against one process that computes both ranks' batches."""

import pytest
import torch
from exchange_worker import ACTIVE, FAMILIES, KINDS, MAX_NORM, MICRO, POOL, RANKS, STEPS, batch, work
from families import LAYERS
from launching import Run
from selection_reference import reference_rows

TOLERANCE = 1e-7
"""Everything is float64 but the norm that clips, which is float32: gradients agree to about 1e-7 of their size. Adam's
eps of 1e-6 is far above what rounding leaves of gradients that are zero, such as those of GPT-2's key biases."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By number of processes and rank, what the worker saved."""
    folder = tmp_path_factory.mktemp("exchange")
    runs = [Run(str(folder), folder / f"{world}.log", world, target=work) for world in (1, RANKS)]
    for run in runs:
        assert run.wait() == 0, run.text()
    return {(w, r): torch.load(folder / f"{w}-{r}.pt") for w, r in [(1, 0), (RANKS, 0), (RANKS, 1)]}


def selected(step: int) -> list[set[int]]:
    """By layer, rows that learn in a step: the masked-in, unfrozen tokens' of both ranks."""
    ids = set()
    for micro in range(MICRO):
        for rank in range(RANKS):
            inputs = batch(step, micro, rank)
            ids |= set(inputs["sequence_ids"][inputs["sink_mask"] & ~inputs["sink_frozen"]].tolist())
    return [
        {r for i in ids for r in reference_rows(i % 2**64, seed=0, layer=layer, pool=POOL, active=ACTIVE)}
        for layer in range(LAYERS)
    ]


def whole(parts: list[dict], kind: str) -> dict:
    """Both ranks' rows together; of replicated sinks, those of the first."""
    if kind != "sharded":
        return parts[0]
    return {key: torch.stack([part[key] for part in parts], 1).flatten(0, 1) for key in parts[0]}


def after(results, kind: str, family: str, step: int) -> dict:
    return whole([results[RANKS, rank][kind, family]["history"][step] for rank in range(RANKS)], kind)


def test_the_batches_are_what_the_tests_need():
    touched = [selected(step) for step in range(STEPS)]
    assert all(touched[0] + touched[1])
    assert not any(touched[2])
    assert all(0 < len(rows) < POOL for step in (0, 1, 3) for rows in touched[step])
    frozen = [set(reference_rows(77, seed=0, layer=i, pool=POOL, active=ACTIVE)) for i in range(LAYERS)]
    assert any(rows - touched[0][layer] for layer, rows in enumerate(frozen)), "no row would be frozen only"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_end_where_one_process_does(results, kind, family):
    alone = results[1, 0]["single", family]
    together = [results[RANKS, rank][kind, family] for rank in range(RANKS)]
    assert max(alone["norms"]) > MAX_NORM
    for rank in together:
        assert rank["norms"] == pytest.approx(alone["norms"], rel=1e-6)
        for name, value in alone["shared"].items():
            torch.testing.assert_close(rank["shared"][name], value, atol=TOLERANCE, rtol=0, msg=name)
    for step in range(1, STEPS + 1):
        found = after(results, kind, family, step)
        for key, value in alone["history"][step].items():
            if key[1].endswith(".step"):
                assert torch.equal(found[key], value), (step, key)
            else:
                torch.testing.assert_close(found[key], value, atol=TOLERANCE, rtol=0, msg=f"{step} {key}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_selected_rows_move(results, kind, family):
    """On every rank, in weights, both moments and step counts; rows of frozen tokens are not among them."""
    for step in range(STEPS):
        before, now = (after(results, kind, family, s) for s in (step, step + 1))
        rows = selected(step)
        for (layer, name), value in now.items():
            moved = {int(r) for r in (value != before[layer, name]).view(POOL, -1).any(1).nonzero()}
            assert moved == rows[layer], (step, layer, name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["rows", "dense"])
def test_replicated_sinks_have_the_same_bits_on_both_ranks(results, kind, family):
    first, second = (results[RANKS, rank][kind, family] for rank in range(RANKS))
    for left, right in zip(first["history"], second["history"], strict=True):
        assert all(torch.equal(value, right[key]) for key, value in left.items())
    assert all(torch.equal(value, second["shared"][name]) for name, value in first["shared"].items())


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_and_dense_agree(results, family):
    """The dense path is the oracle of the row-sparse one."""
    for step in range(1, STEPS + 1):
        dense = after(results, "dense", family, step)
        for key, value in after(results, "rows", family, step).items():
            torch.testing.assert_close(value, dense[key], atol=1e-12, rtol=0, msg=f"{step} {key}")


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_are_gathered_in_order(results, family):
    """By hand from both ranks, by gather_rows, and by what checkpoints are made of."""
    expected = {k: v for k, v in after(results, "sharded", family, STEPS).items() if "." not in k[1]}
    for rank in range(RANKS):
        found = results[RANKS, rank]["sharded", family]
        assert found["gathered"].keys() == expected.keys()
        assert found["whole"].keys() == results[1, 0]["single", family]["whole"].keys()
        for (layer, name), value in expected.items():
            assert torch.equal(found["gathered"][layer, name], value)
            key = next(k for k in found["whole"] if f".{layer}." in k and k.endswith(f".sinks.{name}"))
            assert torch.equal(found["whole"][key], value)
