import pickle

import datasets
import numpy as np
import pytest
import torch

from memsinks.errors import InputError, SequenceIdError
from memsinks.stream import Collator

LONG = {
    "input_ids": np.array([5, 6, 7]),
    "labels": np.array([-100, 6, -100]),
    "position_ids": np.array([0, 1, 0]),
    "sequence_ids": np.array([-1, -1, 9]),
    "sink_mask": np.array([True, True, False]),
    "exposed_ids": np.array([-1, 9]),
    "tokens_used": np.array(3),
}
SHORT = {
    "input_ids": np.array([8]),
    "labels": np.array([-100]),
    "position_ids": np.array([0]),
    "sequence_ids": np.array([4]),
    "sink_mask": np.array([True]),
    "exposed_ids": np.array([], dtype=np.int64),
    "tokens_used": np.array(1),
}
EXPECTED = {
    "input_ids": [[5, 6, 7], [8, 0, 0]],
    "labels": [[-100, 6, -100], [-100, -100, -100]],
    "position_ids": [[0, 1, 0], [0, 0, 1]],
    "sequence_ids": [[-1, -1, 9], [4, 0, 0]],
    "sink_mask": [[True, True, False], [True, False, False]],
}


def listed(batch):
    return {name: tensor.tolist() for name, tensor in batch.items()}


def without(row, *names):
    return {k: v for k, v in row.items() if k not in names}


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, lambda v: np.asarray(v).tolist()])
def test_padding(kind):
    rows = [{k: kind(v) for k, v in row.items()} for row in (LONG, SHORT)]
    batch = Collator(0)(rows)
    assert listed(batch) == EXPECTED  # so no attention_mask either
    assert {name: t.dtype for name, t in batch.items()} == {
        name: torch.bool if name == "sink_mask" else torch.int64 for name in EXPECTED
    }
    batch = Collator(0, with_exposures=True)(rows)
    assert listed(batch) == EXPECTED | {"exposed_ids": [-1, 9]}
    assert Collator(0, with_exposures=True)([rows[1]])["exposed_ids"].dtype == torch.int64


def test_a_fixed_width():
    batch = Collator(1, max_length=5)([LONG, SHORT])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 1], [8, 1, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 0, 1], [0, 0, 1, 2, 3]]
    with pytest.raises(InputError, match="a row has 3 tokens, more than max_length=2"):
        Collator(1, max_length=2)([SHORT, LONG])


def test_widths_are_rounded_up():
    widths = [Collator(0, pad_to_multiple_of=m)([LONG, SHORT])["input_ids"].shape[1] for m in (1, 2, 3, 8)]
    assert widths == [3, 4, 3, 8]


def test_only_what_the_rows_have():
    rows = [without(row, "position_ids", "labels", "sink_mask", "exposed_ids") for row in (LONG, SHORT)]
    assert listed(Collator(0)(rows)) == {
        "input_ids": EXPECTED["input_ids"],
        "labels": [[5, 6, 7], [8, -100, -100]],
        "sequence_ids": EXPECTED["sequence_ids"],
        "sink_mask": [[True, True, True], [True, False, False]],
    }


def test_rows_without_sequence_ids_are_refused():
    plain = datasets.Dataset.from_dict({"input_ids": [[1, 2]], "labels": [[1, 2]]})
    with pytest.raises(SequenceIdError, match="no 'sequence_ids'; its columns are 'input_ids', 'labels'"):
        Collator(0)([plain[0]])
    with pytest.raises(SequenceIdError, match="no 'exposed_ids'"):
        Collator(0, with_exposures=True)([without(LONG, "exposed_ids")])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 2.0, 3.0], "one integer a token, not float64"),
        ([True, True, True], "not bool"),
        (7, "not int64 of shape"),
        ([1, 2], "2 entries for 3 tokens"),
        ([[1, 2, 3]], "shape"),
        (["a", "b", "c"], "one integer a token"),
        ([2**64, 1, 1], "one integer a token"),
    ],
)
def test_bad_sequence_ids(ids, message):
    with pytest.raises(SequenceIdError, match=message):
        Collator(0)([LONG | {"sequence_ids": ids}])


def test_unsigned_ids_keep_their_bits():
    top = [2**64 - 1, 2**63, 1]
    for ids in (top, np.array(top, dtype=np.uint64), torch.tensor([-1, -(2**63), 1])):
        assert Collator(0)([LONG | {"sequence_ids": ids}])["sequence_ids"].tolist() == [[-1, -(2**63), 1]]


def test_bad_rows():
    for rows, message in (
        ([], "no rows"),
        ([without(LONG, "input_ids")], "no 'input_ids'"),
        ([LONG, without(SHORT, "position_ids")], "no 'position_ids'"),
        ([LONG | {"labels": [1, 2]}], "'labels' of a row has 2 entries for 3 tokens"),
        ([LONG | {"sink_mask": [1, 0, 1]}], "'sink_mask' of a row must be one-dimensional bool"),
        ([LONG | {"input_ids": [[1], [2]]}], "'input_ids' of a row must be one-dimensional int64"),
    ):
        with pytest.raises(InputError, match=message):
            Collator(0)(rows)


def test_collators_pickle():
    collator = Collator(3, 8, True)
    assert pickle.loads(pickle.dumps(collator)) == collator
