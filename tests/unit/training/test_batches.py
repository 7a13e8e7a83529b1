"""Batches of padding for ranks without rows, and the clock on the loader."""

import time

import numpy as np
import pytest
import torch
from families import VOCABULARY, plain_model, sink_model
from torch.utils.data import Dataset

from memsinks.sinks.attach import sinks_of
from memsinks.stream import Collator
from memsinks.training.batches import PaddingCollator, RankBatches, WaitingLoader, trailing
from memsinks.training.optimizer import SinkAdamW

KINDS = ("plain", "packed", "placebo")


def rows(kind: str = "plain", count: int = 4) -> list[dict]:
    rng = np.random.default_rng(1)
    found = []
    for i in range(count):
        length = 5 + i
        row = {
            "input_ids": rng.integers(3, VOCABULARY, length),
            "sequence_ids": np.full(length, 7 + i),
            "sink_mask": np.ones(length, dtype=bool),
            "exposed_ids": np.array([7 + i, 2**63 - 1]),
        }
        if kind == "packed":
            row["position_ids"] = np.concatenate([np.arange(2), np.arange(length - 2)])
        if kind == "placebo":
            row["sink_frozen"] = np.ones(length, dtype=bool)
        found.append(row)
    return found


def collator(kind: str = "plain") -> PaddingCollator:
    return PaddingCollator(Collator(0, with_exposures=True), rows(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_collated_as_ever(kind):
    ours, theirs = collator(kind)(rows(kind)), Collator(0, with_exposures=True)(rows(kind))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("kind", KINDS)
def test_filler_predicts_counts_and_switches_on_nothing(kind):
    filler = collator(kind)([])
    assert filler["input_ids"].shape == (1, 5)
    assert filler["labels"].shape == (1, 5)
    assert (filler["labels"] == -100).all()
    assert filler["sink_mask"].dtype == torch.bool
    assert not filler["sink_mask"].any()
    assert "sink_frozen" not in filler or not filler["sink_frozen"].any()
    assert filler["exposed_ids"].shape == (0,)
    assert filler["exposed_ids"].dtype == torch.int64
    assert ("position_ids" in filler) == (kind == "packed")


def test_filler_leaves_the_rows_alone():
    data = rows()
    PaddingCollator(Collator(0, with_exposures=True), data)([])
    for row, before in zip(data, rows(), strict=True):
        for key, value in before.items():
            assert np.array_equal(row[key], value), key


def test_filler_of_a_collator_without_ids_or_labels():
    def simple(batch):
        return {"input_ids": torch.stack([torch.as_tensor(row["input_ids"]) for row in batch])}

    filler = PaddingCollator(simple, rows())([])
    assert filler.keys() == {"input_ids", "labels"}
    assert (filler["labels"] == -100).all()


@pytest.mark.parametrize("kernel", ["gathered", "dense"])
@pytest.mark.parametrize("kind", KINDS)
def test_filler_adds_nothing_to_a_step(kind, kernel):
    """A loss of exactly 0, gradients of exactly 0, and no sink touched."""
    model = sink_model("llama", kernel=kernel).train()
    optimizer = SinkAdamW(model, 1e-2)
    filler = collator(kind)([])
    filler.pop("exposed_ids")
    loss = model(**filler, num_items_in_batch=torch.tensor(37), use_cache=False).loss
    assert loss.item() == 0
    loss.backward()
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if grad is not None:
            values = grad.coalesce().values() if grad.is_sparse else grad
            assert values.eq(0).all(), name
    for sinks in sinks_of(model):
        assert not sinks.touched or not torch.cat(sinks.touched).numel()
        assert all(p.grad is None or not p.grad.is_sparse or not p.grad._nnz() for p in sinks.parameters())
    before = [p.detach().clone() for s in sinks_of(model) for p in s.parameters()]
    optimizer.step()
    after = [p for s in sinks_of(model) for p in s.parameters()]
    assert all(torch.equal(b, a) for b, a in zip(before, after, strict=True))
    assert optimizer.skipped_steps == 0


def test_filler_does_not_change_the_gradient_of_the_rest():
    gradients = []
    for with_filler in (False, True):
        model = sink_model("llama").train()
        batches = [Collator(0)(rows())] + ([collator()([])] if with_filler else [])
        items = torch.tensor(22)
        for batch in batches:
            batch.pop("exposed_ids", None)
            model(**batch, num_items_in_batch=items, use_cache=False).loss.backward()
        gradients.append({n: p.grad.to_dense() for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, grad in gradients[0].items():
        assert torch.equal(grad, gradients[1][name]), name


def test_filler_for_a_baseline():
    model = plain_model("llama").train()
    filler = {k: v for k, v in collator()([]).items() if k in ("input_ids", "labels")}
    loss = model(**filler, num_items_in_batch=torch.tensor(5), use_cache=False).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.eq(0).all() for p in model.parameters())


def test_the_loader_gives_filler_for_empty_micro_batches():
    data = rows(count=3)
    batches = [
        WaitingLoader(
            data,
            batch_sampler=RankBatches(3, batch_size=3, micro_batch_size=2, rank=rank, world=3),
            collate_fn=PaddingCollator(Collator(0, with_exposures=True), data),
        )
        for rank in range(3)
    ]
    seen = [list(loader) for loader in batches]
    assert [len(s) for s in seen] == [1, 1, 1]
    assert [s[0]["exposed_ids"].tolist()[::2] for s in seen] == [[7, 8], [9], []]
    assert int((seen[2][0]["labels"] != -100).sum()) == 0


# The clock


class Slow(Dataset):
    def __init__(self, seconds: float, count: int = 4) -> None:
        self.seconds, self.count = seconds, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        time.sleep(self.seconds)
        return index


def test_waiting_is_the_dataset_s_time():
    loader = WaitingLoader(Slow(0.02), batch_size=2)
    assert loader.waiting_seconds == 0
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3]]
    assert loader.waiting_seconds >= 4 * 0.02
    once = loader.waiting_seconds
    list(loader)
    assert loader.waiting_seconds >= once + 4 * 0.02, "passes add up"
    assert WaitingLoader(Slow(0.0)).waiting_seconds == 0, "loaders do not share a clock"


def test_waiting_is_not_the_consumer_s_time():
    loader, spent = WaitingLoader(Slow(0.0), batch_size=1), 0.0
    for _ in loader:
        started = time.perf_counter()
        time.sleep(0.25)
        spent += time.perf_counter() - started
    assert spent >= 1
    assert loader.waiting_seconds < spent / 2


def test_waiting_counts_where_the_consumer_stops_or_the_dataset_fails():
    loader = WaitingLoader(Slow(0.02, 10), batch_size=1)
    next(iter(loader))
    assert loader.waiting_seconds >= 0.02

    class Failing(Slow):
        def __getitem__(self, index: int) -> int:
            super().__getitem__(index)
            raise ValueError("no row")

    failing = WaitingLoader(Failing(0.02), batch_size=1)
    with pytest.raises(ValueError, match="no row"):
        list(failing)
    assert failing.waiting_seconds >= 0.02


def test_starting_the_readers_is_waiting_too(monkeypatch):
    """Worker processes take long to start; training stands still meanwhile."""
    original = torch.utils.data.DataLoader.__iter__

    def slow_start(self):
        time.sleep(0.05)
        return original(self)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", slow_start)
    loader = WaitingLoader(Slow(0.0), batch_size=2)
    assert len(list(loader)) == 2
    assert loader.waiting_seconds >= 0.05


def test_padding_is_what_follows_the_last_token():
    data = rows("packed")
    for chosen in ([0], [0, 1, 2], list(range(len(data)))):
        batch = Collator(0, with_exposures=True)([data[i] for i in chosen])
        used = sum(len(data[i]["input_ids"]) for i in chosen)
        assert trailing(batch["labels"] != -100) == batch["labels"].numel() - used
    assert trailing(torch.zeros(2, 5, dtype=torch.bool)) == 10
    assert trailing(torch.zeros(0, 0, dtype=torch.bool)) == 0
