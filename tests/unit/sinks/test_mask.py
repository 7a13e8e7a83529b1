"""One choice of rows for all layers, against a choice in each."""

import pytest
import torch
from families import LAYERS, sink_model
from pools import A, B, C, fill_with, hybrid, logits, table_rows
from selection_reference import reference_rows

import memsinks
from memsinks import SinkAdamW, SinkConfig
from memsinks.ids import to_tensor
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.modes import Mode

DEPTH, IDS = 6, (A, B, C, 0, 3)
POOLS = {
    "hashed": SinkConfig(pool=40, active=4, seed=7),
    "blocks": SinkConfig(pool=40, active=4, seed=7, block=2),
    "hybrid": SinkConfig(pool=40, active=4, seed=7, allocation="hybrid", owned=8),
}


def rows(config: SinkConfig, **options) -> torch.Tensor:
    config = SinkConfig(**{**config.facts(), **options})
    return AllocationTable.initial(config).rows(to_tensor(IDS), config, DEPTH)


@pytest.mark.parametrize("pool", POOLS)
def test_shared_is_one_choice_for_all_layers_and_per_layer_is_not(pool):
    config = POOLS[pool]
    shared, per_layer = rows(config, mask="shared"), rows(config)
    size = int(config.pool) - int(config.owned)
    first = [reference_rows(i, seed=7, layer=0, pool=size, active=4, block=config.block) for i in IDS]
    assert shared.tolist() == [first] * DEPTH
    assert per_layer.tolist() == [
        [reference_rows(i, seed=7, layer=layer, pool=size, active=4, block=config.block) for i in IDS]
        for layer in range(DEPTH)
    ]
    for number in range(len(IDS)):
        assert len({tuple(sorted(r)) for r in per_layer[:, number].tolist()}) > 1


@pytest.mark.parametrize("pool", POOLS)
def test_which_layers_have_sinks_does_not_change_the_choice(pool):
    shared = rows(POOLS[pool], mask="shared")
    assert torch.equal(rows(POOLS[pool], mask="shared", layers=(2, 5)), shared[[2, 5]])
    assert torch.equal(rows(POOLS[pool], mask="shared", layers=(0,)), shared[:1])


def test_owners_rows_are_the_same_in_every_layer_and_others_share_theirs():
    model = hybrid(A, C, mask="shared")
    memsinks.grow(model, 8, trained=[B])
    found = table_rows(model, A, C, B, 0)
    assert found[0] == found[1]
    assert found[0][:2] == [[16, 17, 18, 19], [20, 21, 22, 23]]
    assert max(found[0][2]) < 16
    assert min(found[0][3]) >= 24
    per_layer = table_rows(hybrid(A, C), A, C, B)
    assert per_layer[0][:2] == per_layer[1][:2] == found[0][:2]
    assert per_layer[0][2] != per_layer[1][2]


@pytest.mark.parametrize("kernel", ["gathered", "dense"])
def test_every_layer_computes_with_the_shared_rows(kernel):
    """Sinks that no layer may use are filled with other values, and nothing changes."""
    model = sink_model("llama", kernel=kernel, mask="shared")
    before = logits(model, [A, A, A])
    keep = reference_rows(A, seed=0, layer=0, pool=12, active=4)
    values = [{n: p.detach()[keep].clone() for n, p in s.named_parameters()} for s in sinks_of(model)]
    fill_with(model, 500)
    assert not torch.equal(logits(model, [A, A, A]), before)
    with torch.no_grad():
        for sinks, own in zip(sinks_of(model), values, strict=True):
            for name, parameter in sinks.named_parameters():
                parameter[keep] = own[name]
    assert torch.equal(logits(model, [A, A, A]), before)


def test_it_is_saved_loaded_and_folded(tmp_path):
    model = sink_model("llama", mask="shared", dtype=torch.float64)
    memsinks.save(model, tmp_path / "run")
    loaded = memsinks.load(tmp_path / "run")
    assert loaded.sink_config.mask == "shared"
    assert torch.equal(logits(loaded, [A, B, C]), logits(model, [A, B, C]))
    assert not torch.allclose(logits(sink_model("llama", dtype=torch.float64), [A, B, C]), logits(model, [A, B, C]))
    for mode in (Mode("chosen", (A, B)), Mode("placebo"), Mode("all")):
        folded = memsinks.fold(model, mode)
        union = {r for i in mode.ids for r in reference_rows(i, seed=0, layer=0, pool=12, active=4)} or range(12)
        # The same rows in every layer, so no layer is padded.
        assert folded.config.intermediate_size == 24 + len(union)
        assert all(layer.mlp.down_proj.weight.any(0).all() for layer in folded.model.layers)


@pytest.mark.parametrize("gradients", ["rows", "dense"])
def test_exactly_the_shared_rows_move_in_every_layer(gradients):
    model = sink_model("llama", mask="shared").train()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)
    x = torch.arange(3, 15).view(2, 6)
    model(input_ids=x, labels=x, sequence_ids=to_tensor([A, B]), use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    before = [{n: p.detach().clone() for n, p in s.named_parameters()} for s in sinks_of(model)]
    model(input_ids=x, labels=x, sequence_ids=to_tensor([C, C]), use_cache=False).loss.backward()
    optimizer.step()
    expected = set(reference_rows(C, seed=0, layer=0, pool=12, active=4))
    assert len(before) == LAYERS
    for sinks, old in zip(sinks_of(model), before, strict=True):
        for name, parameter in sinks.named_parameters():
            assert {int(r) for r in (old[name] != parameter).any(1).nonzero()} == expected
