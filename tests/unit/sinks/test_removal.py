"""Removed sinks: their rows are not in the tensors, everything else keeps its bits, and their IDs stay without."""

import itertools

import pytest
import torch
from families import FAMILY_NAMES, plain_model, sink_model, tokens
from pools import NOBODY, A, B, C, disjoint, hybrid, logits
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import memsinks
from memsinks import SinkAdamW
from memsinks.audit.removal import set_aside
from memsinks.errors import ConfigError, SequenceIdError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.files import METADATA, TENSORS
from memsinks.sinks.tombstones import as_mask, as_runs

MANY = list(range(1000, 1040))


def values(model) -> list[torch.Tensor]:
    return [p.detach().clone() for sinks in sinks_of(model) for p in sinks.parameters()]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_without_a_removed_id_the_model_computes_what_it_does_with_its_rows_at_zero(family):
    model = sink_model(family, pool=40)
    with set_aside(model, [A]):
        expected = {mode: logits(model, [B, C, NOBODY], mode) for mode in ("own", "off")}
    memsinks.remove(model, [A])
    for mode, before in expected.items():
        torch.testing.assert_close(logits(model, [B, C, NOBODY], mode), before, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(model, [A] * 3), logits(model, mode="off"))
    assert torch.equal(logits(model, mode=memsinks.Mode("chosen", (A,))), logits(model, mode="off"))
    assert all(len(p) == 36 for p in values(model))


def test_owners_lose_nothing_with_another_owner():
    model = disjoint(A, B, C)
    before = logits(model, [A, C, C])
    memsinks.remove(model, [B])
    assert torch.equal(logits(model, [A, C, C]), before)
    assert all(len(p) == 8 for p in values(model))


@pytest.mark.parametrize("make", [lambda: sink_model("llama", pool=40), lambda: disjoint(A, B, C), lambda: hybrid(A)])
def test_the_order_of_removals_does_not_matter(make, tmp_path):
    files = set()
    for number, order in enumerate(itertools.permutations([A, B, C])):
        model = make()
        for one in order:
            memsinks.remove(model, [one])
        memsinks.save(model, tmp_path / str(number))
        files.add((tmp_path / str(number) / TENSORS).read_bytes() + (tmp_path / str(number) / METADATA).read_bytes())
    model = make()
    memsinks.remove(model, [C, A, B, A])
    memsinks.save(model, tmp_path / "together")
    files.add((tmp_path / "together" / TENSORS).read_bytes() + (tmp_path / "together" / METADATA).read_bytes())
    assert len(files) == 1


def test_with_survivors_rows_that_these_chose_stay_until_the_last_of_them_goes():
    trained = [A, B, *MANY[:3]]
    one, other = sink_model("llama", pool=40), sink_model("llama", pool=40)
    before = logits(one, MANY[:3])
    memsinks.remove(one, [A], survivors=[B, *MANY[:3]])
    assert torch.equal(logits(one, MANY[:3]), before)
    assert all(36 < len(p) < 40 for p in values(one)), "the choice of IDs is such that A shares some rows"
    assert torch.equal(logits(one, [A] * 3), logits(one, mode="off"))
    memsinks.remove(one, [B], survivors=MANY[:3])
    memsinks.remove(other, [B], survivors=[i for i in trained if i != B])
    memsinks.remove(other, [A], survivors=MANY[:3])
    assert all(torch.equal(a, b) for a, b in zip(values(one), values(other), strict=True))
    memsinks.remove(one, MANY[:3], survivors=[])
    rest = sink_model("llama", pool=40)
    memsinks.remove(rest, trained)
    assert all(torch.equal(a, b) for a, b in zip(values(one), values(rest), strict=True))


def test_a_removal_with_every_row_overrules_one_that_kept_shared_ones():
    model, whole = sink_model("llama", pool=40), sink_model("llama", pool=40)
    memsinks.remove(model, [A], survivors=MANY)
    assert all(len(p) == 40 for p in values(model)), "so many others choose every row"
    memsinks.remove(model, [A])
    memsinks.remove(whole, [A])
    assert all(torch.equal(a, b) for a, b in zip(values(model), values(whole), strict=True))
    assert not model.sink_allocation.removed.kept.any()


@pytest.mark.parametrize("make", [lambda: sink_model("llama"), lambda: disjoint(A, B)])
def test_without_any_sinks_it_is_the_plain_model(make):
    model = make()
    off = logits(model, mode="off")
    memsinks.remove(model, None)
    assert all(len(p) == 0 for p in values(model))
    for mode in ("own", "placebo", "all", "off"):
        assert torch.equal(logits(model, [A, B, NOBODY], mode), off)
    memsinks.grow(model, 8, trained=[A, B])
    memsinks.remove(model, None)
    assert torch.equal(logits(model, [A, B, NOBODY]), off)


@pytest.mark.parametrize(("kernel", "gradients"), [("gathered", "rows"), ("gathered", "dense"), ("dense", "dense")])
def test_training_goes_on_with_the_rows_that_are_left(kernel, gradients):
    """The oracle: the same pool with the removed rows at zero, which zero gradients of its own keep there."""
    model, oracle = (sink_model("llama", pool=16, kernel=k) for k in (kernel, "dense"))
    memsinks.remove(model, [A])
    x, ids = tokens(rows=3), to_tensor(MANY[:3])
    with set_aside(oracle, [A]):
        outputs = []
        for each in (model, oracle):
            each.train()
            if each is model:
                optimizer = SinkAdamW(model, lr=0.1, gradients=gradients)
            loss = each(input_ids=x, labels=x, sequence_ids=ids).loss
            loss.backward()
            outputs.append(loss)
        torch.testing.assert_close(*outputs)
        present = [model.sink_allocation.removed.present(s.place, 16) for s in sinks_of(model)]
        for mine, theirs, rows in zip(sinks_of(model), sinks_of(oracle), present, strict=True):
            for name, parameter in mine.named_parameters():
                grad = dict(theirs.named_parameters())[name].grad[rows]
                torch.testing.assert_close(parameter.grad.to_dense(), grad, rtol=1e-4, atol=1e-6)
    before = values(model)
    optimizer.step()
    located = model.sink_allocation.locate(ids, model.sink_config, 2)
    for place, sinks in enumerate(sinks_of(model)):
        chosen = set(located.rows[place].flatten().tolist())
        old = before[place * len(list(sinks.parameters())) :]
        for parameter, was in zip(sinks.parameters(), old, strict=False):
            moved = (parameter != was).any(1).nonzero().squeeze(1).tolist()
            assert set(moved) <= chosen
            assert moved


@pytest.mark.parametrize("make", [lambda: sink_model("llama", pool=40), lambda: disjoint(A, B), lambda: hybrid(A)])
def test_removed_text_is_refused_in_training_and_as_an_owner(make):
    model = make()
    memsinks.remove(model, [A])
    x = tokens(rows=2)
    with pytest.raises(SequenceIdError, match=r"0000000000000007 was removed .* take it out of the text"):
        model.train()(input_ids=x, labels=x, sequence_ids=to_tensor([A, B]))
    if model.sink_allocation.owned:
        with pytest.raises(ConfigError, match="0000000000000007 was removed"):
            memsinks.register(model, [A])
    memsinks.grow(model, 8, trained=[A, B])
    with pytest.raises(SequenceIdError, match="was removed"):
        model(input_ids=x, labels=x, sequence_ids=to_tensor([A, B]))


def test_the_room_of_a_removed_owner_is_not_given_away_under_its_old_number():
    model = disjoint(A, B, C)
    memsinks.remove(model, [B])
    with pytest.raises(ConfigError, match="4 rows more are needed"):
        memsinks.register(model, [NOBODY])
    memsinks.grow(model, 4, trained=())
    memsinks.register(model, [NOBODY])
    rows = model.sink_allocation.rows(to_tensor([NOBODY]), model.sink_config, 2)
    assert rows.flatten().tolist() == [12, 13, 14, 15] * 2
    assert model.sink_allocation.locate(to_tensor([NOBODY]), model.sink_config, 2).rows[0].tolist() == [[8, 9, 10, 11]]


def test_an_optimiser_from_before_is_refused():
    model = sink_model("llama", pool=40).train()
    optimizer = SinkAdamW(model)
    x = tokens(rows=1)

    def step() -> None:
        model(input_ids=x, labels=x, sequence_ids=to_tensor([B])).loss.backward()
        optimizer.step()

    step()
    memsinks.remove(model, [A])
    with pytest.raises(ConfigError, match="removed since this optimiser's last step"):
        step()


def test_saved_and_loaded_it_is_the_same_and_plain_loaders_read_it(tmp_path):
    model = sink_model("llama", pool=40)
    off = logits(model, mode="off")
    memsinks.remove(model, [A, C])
    memsinks.save(model, tmp_path / "run")
    loaded = memsinks.load(tmp_path / "run")
    assert torch.equal(logits(loaded, [A, B, C]), logits(model, [A, B, C]))
    memsinks.save(loaded, tmp_path / "again")
    for name in (TENSORS, METADATA):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    shapes = {len(t) for k, t in load_file(tmp_path / "run" / TENSORS).items() if k.startswith("layers.")}
    assert shapes < set(range(32, 40))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        assert torch.equal(plain(input_ids=tokens(rows=3)).logits, off)


def test_a_folded_survivor_has_no_removed_row():
    model = sink_model("llama", pool=40)
    memsinks.remove(model, [A])
    mode = memsinks.Mode("chosen", (A, B))
    folded = memsinks.fold(model, mode)
    with torch.no_grad():
        torch.testing.assert_close(folded(input_ids=tokens(rows=3)).logits, logits(model, mode=mode))
    assert folded.config.intermediate_size <= 24 + 4


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ConfigError, match="no sinks"):
        memsinks.remove(plain_model("llama"), [A])
    model = sink_model("llama")
    next(sinks_of(model)).shard = object()
    with pytest.raises(ConfigError, match="spread over ranks"):
        memsinks.remove(model, [A])
    with pytest.raises(SequenceIdError):
        memsinks.remove(sink_model("llama"), [2**64])


@pytest.mark.parametrize("marks", list(itertools.product([False, True], repeat=6)))
def test_runs(marks):
    marked = torch.tensor(marks)
    runs = as_runs(marked)
    assert torch.equal(as_mask(runs, 6), marked)
    ends = (runs[:, 0] + runs[:, 1]).tolist()
    assert all(end < start for end, start in zip(ends, runs[1:, 0].tolist(), strict=False))
