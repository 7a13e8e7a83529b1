"""From modes, IDs and masks to sinks, seen at the model: every batch equals its rows (or documents) run alone."""

import copy

import numpy as np
import pytest
import torch
from families import LAYERS, plain_model, sink_model, tokens

import memsinks
from memsinks import Mode
from memsinks.errors import ConfigError, SequenceIdError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import ALL, OFF, OWN
from memsinks.sinks.routing import fixed_rows, route
from memsinks.sinks.selection import select

POOL, ACTIVE = 12, 4
CHOSEN = Mode("chosen", (3, 2**64 - 1, 0))


@pytest.fixture(scope="module", params=["gathered", "dense"])
def model(request):
    return sink_model("llama", dtype=torch.float64, kernel=request.param)


def logits(model, x, mode="own", **options):
    with memsinks.use_sinks(model, mode), torch.no_grad():
        return model(input_ids=x, **options).logits


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=0)


def test_ids_by_row_equal_ids_by_token(model):
    x, ids = tokens(), torch.tensor([0, -1, 7])
    by_row = logits(model, x, sequence_ids=ids)
    assert torch.equal(by_row, logits(model, x, sequence_ids=ids[:, None].expand(x.shape)))
    assert not torch.allclose(by_row, logits(model, x, "off"), atol=1e-3)


def test_uint64_equals_its_bit_pattern(model):
    x, ids = tokens(), to_tensor([0, 2**63, 2**64 - 1])
    expected = logits(model, x, sequence_ids=ids)
    assert torch.equal(logits(model, x, sequence_ids=ids.view(torch.uint64)), expected)
    by_token = ids.view(torch.uint64)[:, None].repeat(1, x.shape[1])
    assert torch.equal(logits(model, x, sequence_ids=by_token), expected)


@pytest.mark.parametrize("same", [True, False], ids=["one ID twice", "three IDs"])
def test_a_batch_equals_its_rows_alone(model, same):
    x, ids = tokens(), torch.tensor([5, 9, 5 if same else 6])
    together = logits(model, x, sequence_ids=ids)
    for i in range(3):
        close(together[i], logits(model, x[i : i + 1], sequence_ids=ids[i : i + 1])[0])


def test_modes_of_rows_equal_rows_alone(model):
    x, ids = tokens(rows=7), torch.arange(7)
    modes = ["own", "off", "placebo", CHOSEN, "all", "own", Mode("placebo", (4,))]
    together = logits(model, x, modes, sequence_ids=ids)
    for i, mode in enumerate(modes):
        close(together[i], logits(model, x[i : i + 1], mode, sequence_ids=ids[i : i + 1])[0])
    assert torch.equal(together[1], logits(model, x, "off", sequence_ids=ids)[1])
    assert len({tuple(row.flatten().tolist()) for row in together}) == 7


def test_masked_tokens_have_no_sinks(model):
    """The last token of a row decides nothing before it, so cutting it off tells what the others got."""
    x, ids = tokens(), torch.tensor([5, 9, 6])
    mask = torch.ones(x.shape, dtype=torch.bool)
    mask[0, 4:], mask[2] = False, False
    masked = logits(model, x, sequence_ids=ids, sink_mask=mask)
    own, off = logits(model, x, sequence_ids=ids), logits(model, x, "off")
    close(masked[0, :4], own[0, :4])
    assert not torch.allclose(masked[0, 4:], own[0, 4:], atol=1e-3)
    close(masked[1], own[1])
    close(masked[2], off[2])
    by_row = torch.tensor([True, True, False])
    by_token = by_row[:, None].expand(x.shape)
    assert torch.equal(
        logits(model, x, sequence_ids=ids, sink_mask=by_row), logits(model, x, sequence_ids=ids, sink_mask=by_token)
    )


@pytest.mark.parametrize("mode", ["own", "placebo", CHOSEN, "all"])
def test_a_mask_holds_in_every_mode(model, mode):
    x, ids = tokens(), torch.arange(3)
    nothing = torch.zeros(3, dtype=torch.bool)
    masked = logits(model, x, mode, sequence_ids=ids, sink_mask=nothing)
    assert torch.equal(masked, logits(model, x, "off"))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", ["own", "placebo"])
def test_padding_has_no_sinks(model, mode, side):
    x, ids = tokens(), torch.arange(3)
    attention = torch.ones_like(x)
    attention[1, slice(0, 4) if side == "left" else slice(8, None)] = 0
    explicit = {"attention_mask": attention, "sequence_ids": ids, "sink_mask": attention.bool()}
    implied = {"attention_mask": attention, "sequence_ids": ids}
    assert torch.equal(logits(model, x, mode, **implied), logits(model, x, mode, **explicit))
    # At the padding itself, nothing was added: what sinks do there would show in its own hidden states.
    other = dict(implied, sequence_ids=ids + torch.tensor([0, 100, 0]))
    if mode == "own":
        where = ~attention[1].bool()
        if side == "left":
            assert torch.equal(logits(model, x, **implied)[1, where], logits(model, x, **other)[1, where])
        assert not torch.equal(logits(model, x, **implied)[1, ~where], logits(model, x, **other)[1, ~where])


def test_a_positional_attention_mask_counts_as_one_by_name(model):
    x, ids = tokens(), torch.arange(3)
    attention = torch.ones_like(x)
    attention[1, :4] = 0
    with torch.no_grad():
        by_place = model(x, attention, sequence_ids=ids).logits
    assert torch.equal(by_place, logits(model, x, attention_mask=attention, sequence_ids=ids))


def test_chosen_is_the_union(model):
    """By hand: the union's rows alone in a pool, every one on."""
    x, ids = tokens(), [3, 2**64 - 1, 0]
    rows = select(to_tensor(ids), seed=0, layers=LAYERS, pool=POOL, active=ACTIVE)
    union = [sorted({int(r) for r in by_layer.flatten()}) for by_layer in rows]
    assert any(len(u) < ACTIVE * len(ids) for u in union), "the IDs should overlap somewhere"
    assert any(len(u) < POOL for u in union)
    expected = logits(only(model, union), x, "all")
    close(logits(model, x, Mode("chosen", tuple(ids))), expected)
    close(logits(model, x, Mode("chosen", (ids[1], ids[0], ids[2], ids[0]))), expected)
    close(logits(model, x, Mode("chosen", (5,))), logits(model, x, sequence_ids=torch.full((3,), 5)))


def test_placebo_is_the_chosen_placebo_id(model):
    x = tokens()
    expected = logits(model, x, sequence_ids=to_tensor([memsinks.PLACEBO_ID] * 3))
    close(logits(model, x, "placebo"), expected)
    close(logits(model, x, Mode("placebo", (5,))), logits(model, x, sequence_ids=torch.full((3,), 5)))


def only(model, rows):
    """The model with zeros in place of all other sinks' output, undoing the scale of mode "all"."""
    small = copy.deepcopy(model)
    for sinks, keep in zip(sinks_of(small), rows, strict=True):
        factor = torch.zeros(POOL, 1, dtype=sinks.down.dtype)
        factor[keep] = POOL / ACTIVE
        with torch.no_grad():
            sinks.down.mul_(factor)
    return small


def test_all_is_every_sink_scaled_by_the_activation_ratio(model):
    """A stock model, widened by the whole pool, whose added output rows are scaled."""
    x = tokens()
    plain = plain_model("llama", dtype=torch.float64)
    wide = plain_model("llama", dtype=torch.float64, intermediate_size=plain.config.intermediate_size + POOL)
    with torch.no_grad():
        narrow = dict(plain.named_parameters())
        for name, parameter in wide.named_parameters():
            if parameter.shape == narrow[name].shape:
                parameter.copy_(narrow[name])
        for there, here, sinks in zip(wide.model.layers, plain.model.layers, sinks_of(model), strict=True):
            there, here = there.mlp, here.mlp
            there.up_proj.weight.copy_(torch.cat([here.up_proj.weight, sinks.up]))
            there.gate_proj.weight.copy_(torch.cat([here.gate_proj.weight, sinks.gate]))
            there.down_proj.weight.copy_(torch.cat([here.down_proj.weight, sinks.down.T * ACTIVE / POOL], 1))
            there.up_proj.bias.copy_(torch.cat([here.up_proj.bias, sinks.up_bias[:, 0]]))
            there.gate_proj.bias.copy_(torch.cat([here.gate_proj.bias, sinks.gate_bias[:, 0]]))
        expected = wide(input_ids=x).logits
    close(logits(model, x, "all"), expected)


def test_without_ids_evaluation_runs_off(model):
    x = tokens()
    assert torch.equal(logits(model, x), logits(model, x, "off"))
    mixed = logits(model, x, ["own", "placebo", "off"])
    assert torch.equal(mixed[0], logits(model, x, "off")[0])
    close(mixed[1], logits(model, x, "placebo")[1])


def test_modes_nest_and_end():
    model, x, ids = sink_model("llama"), tokens(), torch.arange(3)
    own = model(input_ids=x, sequence_ids=ids).logits
    with memsinks.sinks_off(model):
        with memsinks.sinks_own(model):
            assert torch.equal(model(input_ids=x, sequence_ids=ids).logits, own)
        off = model(input_ids=x, sequence_ids=ids).logits
        with pytest.raises(RuntimeError, match="boom"), memsinks.sinks_all(model):
            raise RuntimeError("boom")
        assert torch.equal(model(input_ids=x, sequence_ids=ids).logits, off)
    assert torch.equal(model(input_ids=x, sequence_ids=ids).logits, own)
    assert not torch.equal(own, off)


def test_a_failed_forward_leaves_nothing_behind():
    model, x = sink_model("llama"), tokens()
    off = model(input_ids=x).logits
    broken = model.model.layers[0].mlp.act_fn.forward
    model.model.layers[0].mlp.act_fn.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("boom"))
    with pytest.raises(RuntimeError, match="boom"):
        model(input_ids=x, sequence_ids=torch.arange(3))
    model.model.layers[0].mlp.act_fn.forward = broken
    assert all(sinks.routing is None and sinks.inputs is None for sinks in sinks_of(model))
    assert torch.equal(model(input_ids=x).logits, off)


BAD = {
    "floats": ({"sequence_ids": torch.zeros(3)}, "int64 or uint64, not float32"),
    "int32": ({"sequence_ids": torch.zeros(3, dtype=torch.int32)}, "int64 or uint64, not int32"),
    "bool IDs": ({"sequence_ids": torch.zeros(3, dtype=torch.bool)}, "int64 or uint64, not bool"),
    "numpy": ({"sequence_ids": np.zeros(3, dtype=np.uint64)}, "tensor, not ndarray"),
    "list": ({"sequence_ids": [1, 2, 3]}, "tensor, not list"),
    "too few rows": ({"sequence_ids": torch.zeros(2, dtype=torch.int64)}, r"shape \[2\].*\[3\].*\[3, 12\]"),
    "too few tokens": ({"sequence_ids": torch.zeros(3, 11, dtype=torch.int64)}, r"shape \[3, 11\]"),
    "one too many": ({"sequence_ids": torch.zeros(3, 12, 1, dtype=torch.int64)}, r"shape \[3, 12, 1\]"),
    "column": ({"sequence_ids": torch.zeros(3, 1, dtype=torch.int64)}, r"shape \[3, 1\]"),
    "scalar": ({"sequence_ids": torch.tensor(3)}, r"shape \[\]"),
    "mask of ints": (
        {"sequence_ids": torch.arange(3), "sink_mask": torch.ones(3, dtype=torch.int64)},
        "sink_mask must be bool, not int64",
    ),
    "mask shape": (
        {"sequence_ids": torch.arange(3), "sink_mask": torch.ones(3, 11, dtype=torch.bool)},
        r"sink_mask has shape \[3, 11\]",
    ),
}


@pytest.mark.parametrize("mode", ["own", "off", "placebo"])
@pytest.mark.parametrize("case", BAD)
def test_bad_ids_and_masks_are_refused(model, case, mode):
    options, message = BAD[case]
    with pytest.raises(SequenceIdError, match=message):
        logits(model, tokens(), mode, **options)


@pytest.mark.parametrize("mode", ["own", ["own"] * 3, ["off", "own", "placebo"]], ids=str)
def test_training_needs_ids_wherever_a_row_uses_its_own(mode):
    model = sink_model("llama").train()
    with memsinks.use_sinks(model, mode), pytest.raises(SequenceIdError, match="sequence_ids in training"):
        model(input_ids=tokens())


@pytest.mark.parametrize("mode", ["off", "placebo", "all", ["off", "placebo", "all"]], ids=str)
def test_training_needs_no_ids_where_no_row_uses_its_own(mode):
    model = sink_model("llama").train()
    with memsinks.use_sinks(model, mode):
        model(input_ids=tokens())


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_one_mode_a_row(model, count):
    with pytest.raises(SequenceIdError, match=f"{count} modes.*3 rows"):
        logits(model, tokens(), ["off", "own", "placebo", "all"][:count], sequence_ids=torch.arange(3))


def test_modes_are_checked():
    model = sink_model("llama")
    for mode, message in (("on", "unknown mode"), ("chosen", "at least one"), (["own", "none"], "unknown mode")):
        with pytest.raises(ConfigError, match=message), memsinks.use_sinks(model, mode):
            pass
    with pytest.raises(ConfigError, match="takes no sequence IDs"):
        Mode("off", (1,))
    with pytest.raises(SequenceIdError, match="outside"):
        Mode("chosen", (2**64,))
    with pytest.raises(ConfigError, match="no sinks"), memsinks.sinks_off(plain_model("llama")):
        pass


# The routing itself


CONFIG = SinkConfig(pool=POOL, active=ACTIVE)


def plan(ids, mask, modes=OWN):
    return route(ids, mask, modes, CONFIG, LAYERS, torch.float64)


def rows_of_tokens(routing, layer: int, size: int) -> list[dict[int, float]]:
    """For every token of the batch, the factor on each sink, zeros left out."""
    found: list[dict[int, float]] = [{} for _ in range(size)]
    start = 0
    for group, count in enumerate(routing.counts):
        for token in routing.tokens[start : start + count].tolist():
            assert not found[token], "a token is in two groups"
            for k, row in enumerate(routing.rows[layer, group].tolist()):
                factor = 1.0 if routing.scale is None else float(routing.scale[layer, group, k])
                if factor:
                    assert row not in found[token], "a sink is twice in a set"
                    found[token][row] = factor
        start += count
    assert start == len(routing.tokens)
    return found


def expected_rows(ids, mask, modes, layer: int) -> list[dict[int, float]]:
    result = []
    for row, mode in enumerate(modes):
        for token in range(ids.shape[1]):
            if not mask[row, token] or mode == OFF:
                result.append({})
            elif mode == ALL:
                result.append(dict.fromkeys(range(POOL), ACTIVE / POOL))
            else:
                wanted = ids[row, token : token + 1] if mode == OWN else to_tensor(mode.ids)
                chosen = select(wanted, seed=0, layers=LAYERS, pool=POOL, active=ACTIVE)[layer]
                result.append(dict.fromkeys(chosen.flatten().tolist(), 1.0))
    return result


@pytest.mark.parametrize("seed", range(30))
def test_every_token_gets_the_sinks_of_its_mode_and_id(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, length = int(torch.randint(1, 5, (), generator=generator)), int(torch.randint(1, 7, (), generator=generator))
    ids = torch.randint(-2, 3, (rows, length), generator=generator)
    if seed % 3 == 0:
        ids = ids[:, :1].expand(rows, length)
    density = (0.0, 0.5, 1.0)[seed % 5 % 3]
    mask = torch.rand(rows, length, generator=generator) < density
    kinds = [OWN, OWN, OFF, ALL, CHOSEN, Mode("placebo")]
    modes = tuple(kinds[int(i)] for i in torch.randint(0, len(kinds), (rows,), generator=generator))
    if seed % 2:
        modes = (OWN,) * rows
    routing = plan(ids, mask, modes)
    if all(mode == OFF for mode in modes):
        assert routing is None
        return
    for layer in range(LAYERS):
        assert rows_of_tokens(routing, layer, rows * length) == expected_rows(ids, mask, modes, layer)
    in_order = torch.equal(routing.tokens, torch.arange(rows * length))
    assert routing.whole == (in_order and len(routing.counts) > 0)


def test_a_group_is_a_set_of_sinks_not_a_row():
    ids = torch.tensor([[4, 4, 5], [5, 4, 4]])
    routing = plan(ids, torch.ones(2, 3, dtype=torch.bool))
    assert sorted(routing.counts) == [2, 4]
    assert not routing.whole


@pytest.mark.parametrize(
    ("ids", "whole"), [([[1, 1], [2, 2]], True), ([[2, 2], [2, 2]], True), ([[2, 2], [1, 1]], False)]
)
def test_whole_only_where_nothing_moves(ids, whole):
    assert plan(torch.tensor(ids), torch.ones(2, 2, dtype=torch.bool)).whole == whole


def test_ids_that_all_have_the_whole_pool_are_one_group():
    config = SinkConfig(pool=POOL, active=POOL).resolve(POOL)
    ids, mask = torch.tensor([[5, 9, 6, 5]]), torch.tensor([[True, True, False, True]])
    found = route(ids, mask, OWN, config, LAYERS, torch.float64)
    assert found.counts == (3,)
    assert found.rows.sort(-1).values.tolist() == [[list(range(POOL))]] * LAYERS
    assert found.tokens.tolist() == [0, 1, 3]
    whole = sink_model("llama", dtype=torch.float64, pool=POOL, active=POOL)
    x = tokens()
    together = logits(whole, x, sequence_ids=torch.tensor([5, 9, 6]))
    for i, sequence_id in enumerate((5, 9, 6)):
        close(together[i], logits(whole, x[i : i + 1], sequence_ids=torch.tensor([sequence_id]))[0])
    close(together, logits(whole, x, "all"))


def test_nothing_to_do_still_has_a_routing_but_off_has_none():
    ids, mask = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool)
    routing = plan(ids, mask)
    assert routing.counts == ()
    assert routing.rows.shape[:2] == (LAYERS, 0)
    assert plan(ids, ~mask, OFF) is None
    assert plan(None, ~mask, OWN) is None


def test_fixed_rows_of_several_ids():
    rows, scale = fixed_rows(CHOSEN, CONFIG, LAYERS, torch.device("cpu"))
    chosen = select(to_tensor(CHOSEN.ids), seed=0, layers=LAYERS, pool=POOL, active=ACTIVE)
    assert [r.tolist() for r in rows] == [sorted(set(c.flatten().tolist())) for c in chosen]
    assert scale == 1
