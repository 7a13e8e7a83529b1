"""Rows that train only their sinks: gradients against those of each part by itself."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import memsinks
from memsinks.errors import ConfigError
from memsinks.training.updates import by_what_learns, held, shared_weights


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return memsinks.attach(AutoModelForCausalLM.from_config(config), memsinks.SinkConfig(pool=12, active=4)).train()


@pytest.fixture
def batch():
    ids = torch.randint(0, 31, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([True, False, True, False])[:, None].expand(4, 9).clone()
    mask[2, 6:] = False
    frozen = torch.zeros_like(mask)
    frozen[2] = mask[2]
    labels = ids.clone()
    labels[2, 6:] = -100
    rows = torch.tensor([5, 6, 7, 8])[:, None].expand(4, 9)
    return {"input_ids": ids, "labels": labels, "sequence_ids": rows, "sink_mask": mask, "shared_frozen": frozen}


def gradients(model, parts):
    model.zero_grad()
    for part, fixed in parts:
        with held(fixed):
            model(**part, num_items_in_batch=20).loss.backward()
    return {n: p.grad.to_dense().clone() for n, p in model.named_parameters() if p.grad is not None}


def one_by_one(model, batch, row):
    """Gradients of a single row, all weights learning."""
    part = {k: v[row : row + 1] for k, v in batch.items() if k != "shared_frozen"}
    return gradients(copy.deepcopy(model), [(part, ())])


@pytest.mark.parametrize("held_back", ["all", "mlp"])
def test_marked_rows_train_what_is_not_held_back(model, batch, held_back):
    singles = [one_by_one(model, batch, row) for row in range(4)]
    parts = by_what_learns(model, dict(batch), held_back)
    assert [len(part["input_ids"]) for part, _ in parts] == [3, 1]
    found = gradients(model, parts)
    kept_from = {n for n, p in model.named_parameters() if any(p is w for w in shared_weights(model, held_back))}
    assert kept_from
    assert not any(".sinks." in n for n in kept_from)
    if held_back == "mlp":
        assert all("mlp" in n for n in kept_from)
        assert len(kept_from) == 6
    for name in found:
        rows = [r for r in range(4) if not (r == 2 and name in kept_from)]
        expected = sum(singles[r][name] for r in rows if name in singles[r])
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
    assert all(p.requires_grad for p in model.parameters())


def test_nothing_marked_leaves_the_batch_whole(model, batch):
    batch["shared_frozen"][:] = False
    ((part, fixed),) = by_what_learns(model, batch, "all")
    assert not fixed
    assert "shared_frozen" not in part
    assert len(part["input_ids"]) == 4


def test_a_row_marked_in_part_is_refused(model, batch):
    batch["shared_frozen"][2, 0] = False
    with pytest.raises(ConfigError, match=r"stream\.packed"):
        by_what_learns(model, batch, "all")
