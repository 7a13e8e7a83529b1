import pickle
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from memsinks.errors import InputError
from memsinks.stream import Collator, ExposurePlan, GovernedPolicy, build_stream, governed


@pytest.fixture(scope="module")
def plan(corpus):
    return ExposurePlan.once(corpus).repeat([2, 3], 5)


def stream(corpus, plan, **changes):
    options = {
        "seed": 3,
        "max_length": 48,
        "packed": True,
        "governed": governed(corpus, plan, GovernedPolicy("repeated")),
    }
    return build_stream(corpus, plan, **(options | changes))


def passes(rows) -> Counter:
    return Counter(i for row in rows for i in row["exposed_ids"].tolist())


@pytest.mark.parametrize("packed", [True, False])
def test_a_row(corpus, plan, packed):
    rows = stream(corpus, plan, packed=packed)
    several = 0
    for i in range(len(rows)):
        row = rows[i]
        n = int(row["tokens_used"])
        assert 2 <= n <= 48
        columns = ["input_ids", "labels", "sequence_ids"] + (["position_ids"] if packed else [])
        assert set(row) == {*columns, "sink_mask", "exposed_ids", "tokens_used"}
        for name in columns:
            assert (row[name].dtype, row[name].shape) == (np.int64, (n,))
        assert (row["sink_mask"].dtype, row["sink_mask"].shape) == (np.bool_, (n,))
        begins = np.flatnonzero(row["labels"] == -100)
        assert begins[0] == 0
        predicted = row["labels"] != -100
        assert (row["labels"][predicted] == row["input_ids"][predicted]).all()
        if packed:
            assert (begins == np.flatnonzero(row["position_ids"] == 0)).all()
            for piece in np.split(row["position_ids"], begins[1:]):
                assert piece.tolist() == list(range(len(piece)))
        else:
            assert len(begins) == 1
        several += len(begins) > 1
    assert bool(several) == packed


def test_the_exposures_are_those_planned(corpus, plan):
    planned = Counter()
    for i in range(len(corpus)):
        planned[int(corpus.sequence_ids[i].view(np.int64))] += int(plan.counts[i])
    for packed in (True, False):
        rows = stream(corpus, plan, packed=packed)
        assert passes(rows[i] for i in range(len(rows))) == +planned
        total = sum(int(rows[i]["tokens_used"]) for i in range(len(rows)))
        assert total == int(corpus.lengths @ plan.counts)


def test_the_sink_mask_is_that_of_the_document(corpus, plan):
    rows = stream(corpus, plan)
    repeated = {int(corpus.sequence_ids[i].view(np.int64)) for i in (0, 2, 3)}
    seen = Counter()
    for i in range(len(rows)):
        for sequence_id, on in zip(rows[i]["sequence_ids"].tolist(), rows[i]["sink_mask"].tolist(), strict=True):
            assert on == (sequence_id in repeated)
            seen[on] += 1
    assert seen[True]
    assert seen[False]


def test_order_depends_on_the_seed(corpus, plan):
    def first(seed):
        return stream(corpus, plan, seed=seed)[0]["input_ids"].tolist()

    assert first(3) == first(3)
    assert len({tuple(first(seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_do_not_change_the_stream(corpus, plan, workers):
    rows = stream(corpus, plan)
    expected = [Collator(0)([rows[j] for j in range(i, min(i + 3, len(rows)))]) for i in range(0, len(rows), 3)]
    loader = DataLoader(rows, batch_size=3, collate_fn=Collator(0), num_workers=workers)
    batches = list(loader)
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        assert batch.keys() == wanted.keys()
        assert all((batch[name] == wanted[name]).all() for name in wanted)


def test_streams_pickle(corpus, plan):
    rows = stream(corpus, plan)
    copy = pickle.loads(pickle.dumps(rows))
    assert len(copy) == len(rows)
    for i in (0, len(rows) - 1):
        assert all((copy[i][name] == rows[i][name]).all() for name in rows[i])


def test_bad_arguments(corpus, plan):
    for changes, message in (
        ({"max_length": 2}, "max_length is 2"),
        ({"window": 0}, "window is 0"),
        ({"governed": np.ones(len(corpus))}, "must be 30 booleans"),
        ({"governed": np.ones(3, dtype=bool)}, "must be 30 booleans"),
    ):
        with pytest.raises(InputError, match=message):
            stream(corpus, plan, **changes)
    with pytest.raises(InputError, match="exposes no document"):
        stream(corpus, plan.cap(0))
