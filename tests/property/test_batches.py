"""Which rows each rank reads: for any sizes, every row of a step once, whatever the number of ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memsinks.training.batches import RankBatches

SHAPES = {
    "rows": st.integers(0, 200),
    "batch": st.integers(1, 24),
    "micro": st.integers(1, 30),
    "world": st.integers(1, 7),
}


def read(
    rows: int, batch: int, micro: int, world: int, start: int = 0, lengths: np.ndarray | None = None
) -> list[list[list[list[int]]]]:
    """Rows by step, micro-batch and rank."""
    by_rank = []
    for rank in range(world):
        batches = RankBatches(rows, batch_size=batch, micro_batch_size=micro, rank=rank, world=world, lengths=lengths)
        batches.start = start
        flat = list(batches)
        count = batches.accumulation
        assert len(flat) == (batches.steps - min(start, batches.steps)) * count, "ranks do not keep in step"
        if not start:
            assert len(batches) == len(flat)
        by_rank.append([flat[i : i + count] for i in range(0, len(flat), count)])
    assert len({len(steps) for steps in by_rank}) == 1
    return [list(map(list, zip(*step, strict=True))) for step in zip(*by_rank, strict=True)]


def in_order(step: list[list[list[int]]]) -> list[int]:
    """Rows as they are dealt out: to all ranks, then to all ranks again."""
    return [row for micro in step for rank in micro for row in rank]


@given(**SHAPES)
def test_a_step_is_exactly_its_rows_each_once(rows, batch, micro, world):
    steps = read(rows, batch, micro, world)
    assert len(steps) == -(-rows // batch)
    for number, step in enumerate(steps):
        assert in_order(step) == list(range(number * batch, min((number + 1) * batch, rows)))


@given(**SHAPES)
def test_ranks_together_read_what_one_would(rows, batch, micro, world):
    alone = [in_order(step) for step in read(rows, batch, batch, 1)]
    assert [in_order(step) for step in read(rows, batch, micro, world)] == alone


@given(**SHAPES)
def test_micro_batches_are_no_larger_and_no_more_than_it_takes(rows, batch, micro, world):
    steps = read(rows, batch, micro, world)
    sizes = [[[len(rank) for rank in part] for part in step] for step in steps]
    assert all(size <= micro for step in sizes for part in step for size in part)
    for step in sizes[:-1]:  # the last may be short
        assert sum(map(sum, step)) == batch
        assert sum(step[-1]) > 0, "a whole round of micro-batches is empty"
    for step in sizes:
        flat = [size for part in step for size in part]
        assert flat == sorted(flat, reverse=True), "a short micro-batch comes last"
        assert sum(0 < size < micro for size in flat) <= 1


@given(**SHAPES, start=st.integers(0, 20), seed=st.integers(0, 9))
def test_rows_of_a_step_are_dealt_out_by_length_where_it_takes_several_rounds(rows, batch, micro, world, start, seed):
    lengths = np.random.default_rng(seed).integers(1, 9, rows)
    plain = read(rows, batch, micro, world, start)
    by_length = read(rows, batch, micro, world, start, lengths)
    if -(-batch // (micro * world)) == 1:
        assert by_length == plain
    for step, ordered in zip(plain, by_length, strict=True):
        assert [[len(rank) for rank in part] for part in step] == [[len(rank) for rank in part] for part in ordered]
        assert sorted(in_order(ordered)) == in_order(step)
        if len(step) > 1:
            assert in_order(ordered) == sorted(in_order(step), key=lambda row: (lengths[row], row))


@given(**SHAPES, start=st.integers(0, 220))
def test_starting_at_a_step_gives_the_tail(rows, batch, micro, world, start):
    assert read(rows, batch, micro, world, start) == read(rows, batch, micro, world)[start:]


@given(**SHAPES, start=st.integers(1, 20))
def test_the_start_is_for_one_pass_only(rows, batch, micro, world, start):
    batches = RankBatches(rows, batch_size=batch, micro_batch_size=micro, rank=world - 1, world=world)
    whole = list(batches)
    batches.start = start
    assert list(batches) == whole[start * batches.accumulation :]
    assert list(batches) == whole
