"""Who owns which sinks, what other IDs see of it, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from allocation_reference import ReferenceAllocation
from families import LAYERS, plain_model, sink_model, tokens
from pools import NOBODY, A, B, C, disjoint, hybrid, logits, table_rows
from torch import nn

import memsinks
from memsinks import SinkAdamW
from memsinks.errors import ConfigError, SequenceIdError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.modes import OWN, PLACEBO
from memsinks.sinks.routing import route

KERNELS = pytest.mark.parametrize("kernel", ["gathered", "dense"])


# Slots


def test_owners_get_slots_in_order_the_same_in_every_layer():
    model = disjoint(C, A)
    assert table_rows(model, A, C) == [[[4, 5, 6, 7], [0, 1, 2, 3]]] * LAYERS
    memsinks.register(model, [A, B, A, C])
    assert table_rows(model, A, B, C) == [[[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]] * LAYERS


def test_hybrid_owners_sit_at_the_end_and_others_share_the_rest():
    model = hybrid(A)
    reference = ReferenceAllocation(24, 4, owned=8)
    reference.register([A])
    ids = [A, B, C, NOBODY, 0]
    assert table_rows(model, *ids) == [[reference.rows(i, layer) for i in ids] for layer in range(LAYERS)]
    assert table_rows(model, A) == [[[16, 17, 18, 19]]] * LAYERS
    assert (
        max(row for layer in table_rows(model, *range(2, 6), *range(10, 60)) for chosen in layer for row in chosen)
        == 15
    )


def test_ids_may_come_as_a_numpy_array_and_through_a_wrapper():
    model = disjoint()
    memsinks.register(nn.ModuleList([model]), np.array([B, A], dtype=np.uint64))
    assert table_rows(model, B, A) == [[[0, 1, 2, 3], [4, 5, 6, 7]]] * LAYERS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: disjoint(A),
            r"3 new owners need 12 rows and 8 of the 12 owned rows are free: 4 rows more.*grow\(model, 4",
        ),
        (lambda: hybrid(A), r"3 new owners need 12 rows and 4 of the 8 owned rows are free: 8 rows more.*owned=16"),
        (lambda: sink_model("llama"), "'hashed' has no rows to own"),
        (lambda: plain_model("llama"), "no sinks"),
    ],
    ids=["disjoint", "hybrid", "hashed", "plain"],
)
def test_too_little_room_changes_nothing(make, message):
    model = make()
    before = getattr(model, "sink_allocation", None)
    with pytest.raises(ConfigError, match=message):
        memsinks.register(model, [1, 2, 3, A, 1] if before and before.owned else [1])
    assert getattr(model, "sink_allocation", None) is before


@pytest.mark.parametrize("bad", [-1, 2**64, "7", 1.0])
def test_bad_ids_are_refused(bad):
    model = disjoint(A)
    before = model.sink_allocation
    with pytest.raises(SequenceIdError):
        memsinks.register(model, [1, bad])
    with pytest.raises(SequenceIdError):
        memsinks.grow(model, 4, trained=[bad])
    assert model.sink_allocation is before
    assert next(sinks_of(model)).up.shape[0] == 12


# What an ID sees of others


def test_taking_an_owner_s_rows_away_changes_no_other_id_s_output():
    model = disjoint(A, B, C)
    ids = [A, B, C]
    before = logits(model, ids)
    with torch.no_grad():
        for sinks in sinks_of(model):
            for parameter in sinks.parameters():
                parameter[4:8] = 0
    after = logits(model, ids)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1], atol=1e-3)
    torch.testing.assert_close(after[1], logits(model, mode="off")[1])


@KERNELS
def test_an_id_without_a_slot_is_off_bitwise(kernel):
    model = disjoint(A, kernel=kernel)
    off = logits(model, mode="off")
    assert torch.equal(logits(model, [NOBODY] * 3), off)
    assert torch.equal(logits(model, mode="placebo"), off)
    assert torch.equal(logits(model, mode=memsinks.Mode("chosen", (NOBODY, B))), off)
    mixed = logits(model, [A, NOBODY, A])
    assert torch.equal(mixed[1], off[1])
    torch.testing.assert_close(mixed[[0, 2]], logits(model, [A] * 3)[[0, 2]])
    # Not even zeros are added: they would turn -0 into +0, which equality does not tell.
    options = {"config": model.sink_config, "layers": LAYERS, "dtype": torch.float32, "table": model.sink_allocation}
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert route(None, mask, PLACEBO, **options).counts == ()
    assert route(to_tensor([NOBODY])[:, None].expand(1, 3), mask, OWN, **options).counts == ()
    modes = logits(model, [A, A, NOBODY], mode=["placebo", "own", "all"])
    assert torch.equal(modes[0], off[0])
    torch.testing.assert_close(modes[1], logits(model, [A] * 3)[1])
    torch.testing.assert_close(modes[2], logits(model, mode="all")[2])


def test_chosen_takes_the_owners_among_the_ids():
    model = disjoint(A, B)
    torch.testing.assert_close(logits(model, mode=memsinks.Mode("chosen", (NOBODY, B))), logits(model, [B] * 3))


@pytest.mark.parametrize("mode", [memsinks.Mode("chosen", (A, NOBODY)), "placebo", "all", "off"], ids=str)
@pytest.mark.parametrize("make", [disjoint, hybrid])
def test_a_fixed_mode_folds(make, mode):
    model = make(B, A, dtype=torch.float64)
    expected = logits(model, mode=mode)
    torch.testing.assert_close(memsinks.fold(model, mode)(input_ids=tokens(rows=3)).logits, expected)


def test_all_is_scaled_by_active_over_pool():
    """A stock model widened by the pool; ``fold`` shares no code with the kernels."""
    model = disjoint(A, B, C, dtype=torch.float64)
    folded = memsinks.fold(model, "all")
    units = folded.model.layers[0].mlp.down_proj.weight[:, -12:]
    torch.testing.assert_close(units.T, next(sinks_of(model)).down * (4 / 12))
    torch.testing.assert_close(folded(input_ids=tokens(rows=3)).logits, logits(model, mode="all"))


# Training


def test_training_text_without_a_slot_is_refused_by_name():
    model = disjoint(A).train()
    x = tokens(rows=3)
    ids = to_tensor([A, NOBODY, B])
    with pytest.raises(SequenceIdError, match=r"belong to sequence ID f{16}, 0{14}63, .*register"):
        model(input_ids=x, sequence_ids=ids)
    many = to_tensor(range(100, 112)).view(3, 4).repeat_interleave(3, 1)
    with pytest.raises(SequenceIdError, match=r"ID 0{14}64, 0{14}65, 0{14}66 and 9 more, "):
        model(input_ids=x, sequence_ids=many)
    model(input_ids=x, sequence_ids=ids, sink_mask=torch.tensor([True, False, False]))
    model(input_ids=x, sequence_ids=ids, attention_mask=torch.tensor([[1], [0], [0]]).expand(3, 12))
    with memsinks.sinks_off(model):
        model(input_ids=x, sequence_ids=ids)
    model.eval()(input_ids=x, sequence_ids=ids)


def test_hybrid_training_refuses_no_id():
    hybrid(A).train()(input_ids=tokens(rows=3), sequence_ids=to_tensor([A, NOBODY, B]))


@pytest.mark.parametrize("gradients", ["rows", "dense"])
def test_a_step_moves_the_owner_s_rows_alone(gradients):
    model = disjoint(A, B, C).train()
    optimizer = SinkAdamW(model, 0.1, sink_weight_decay=0.5, gradients=gradients)
    before = [p.detach().clone() for s in sinks_of(model) for p in s.parameters()]
    x = tokens(rows=2)
    model(input_ids=x, labels=x, sequence_ids=to_tensor([B, B])).loss.backward()
    optimizer.step()
    for old, new in zip(before, (p for s in sinks_of(model) for p in s.parameters()), strict=True):
        assert {int(r) for r in (old != new).any(1).nonzero()} == {4, 5, 6, 7}


def test_a_copy_registers_for_itself_and_detach_forgets():
    model = disjoint(A)
    twin = copy.deepcopy(model)
    memsinks.register(twin, [B])
    assert len(model.sink_allocation.owner_ids) == 1
    assert torch.equal(logits(model, [B] * 3), logits(model, mode="off"))
    assert not hasattr(memsinks.detach(twin), "sink_allocation")
