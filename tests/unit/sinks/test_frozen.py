"""Frozen sinks: they act and pass gradients on, and do not learn."""

import pytest
import torch
from families import FAMILY_NAMES, sink_model, tokens

import memsinks
from memsinks import SinkAdamW
from memsinks.errors import SequenceIdError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of

BOTH = pytest.mark.parametrize(
    ("kernel", "gradients"), [("gathered", "rows"), ("gathered", "dense"), ("dense", "dense")]
)
OWN, PLACEBO = 6, -9
"""The ID of the row that learns, and of the row whose sinks are frozen."""


def inputs(*ids: int, frozen=None, length: int = 6, **options) -> dict:
    x = tokens(rows=len(ids), length=length)
    given = {"input_ids": x, "labels": x, "sequence_ids": torch.tensor(ids), **options}
    return given if frozen is None else {**given, "sink_frozen": torch.tensor(frozen)}


def gradients_of(model, batch: dict) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch, use_cache=False).loss.backward()
    return {n: p.grad.to_dense().clone() for n, p in model.named_parameters() if p.grad is not None}


def sinks_only(named: dict) -> dict:
    return {name: value for name, value in named.items() if ".sinks." in name}


@pytest.mark.parametrize("kernel", ["gathered", "dense"])
def test_frozen_sinks_act_like_others(kernel):
    model = sink_model("llama", dtype=torch.float64, kernel=kernel)
    batch = inputs(OWN, PLACEBO, 3)
    expected = model(**batch).logits
    for frozen in ([True] * 3, [False, True, False], [False] * 3):
        torch.testing.assert_close(model(**batch, sink_frozen=torch.tensor(frozen)).logits, expected)
    by_token = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    torch.testing.assert_close(model(**batch, sink_frozen=by_token).logits, expected)
    assert not torch.allclose(model(**batch, sink_mask=torch.zeros(3, dtype=torch.bool)).logits, expected, atol=1e-3)


def test_none_frozen_is_bitwise_as_before():
    model = sink_model("llama")
    batch = inputs(OWN, PLACEBO)
    assert torch.equal(model(**batch, sink_frozen=torch.tensor([False, False])).logits, model(**batch).logits)


def test_a_masked_token_has_no_sinks_even_if_frozen():
    model = sink_model("llama")
    batch = inputs(OWN, PLACEBO, sink_mask=torch.tensor([True, False]))
    frozen = model(**batch, sink_frozen=torch.tensor([False, True])).logits
    assert torch.equal(frozen, model(**batch).logits)
    padded = inputs(OWN, PLACEBO, attention_mask=torch.tensor([[1] * 6, [1] * 4 + [0] * 2]))
    as_mask = inputs(OWN, PLACEBO, attention_mask=padded["attention_mask"], sink_mask=padded["attention_mask"].bool())
    on = torch.ones(2, dtype=torch.bool)
    assert torch.equal(model(**padded, sink_frozen=on).logits, model(**as_mask, sink_frozen=on).logits)


@pytest.mark.parametrize("family", FAMILY_NAMES)
@BOTH
def test_gradients_are_those_beside_constants(family, kernel, gradients):
    """The oracle: a model in which all rows are plain constants; and for the rows, the learning row alone."""
    model = sink_model(family, dtype=torch.float64, kernel=kernel).train()
    SinkAdamW(model, gradients=gradients)
    actual = gradients_of(model, inputs(OWN, PLACEBO, frozen=[False, True]))

    constant = sink_model(family, dtype=torch.float64, kernel=kernel).train()
    for sinks in sinks_of(constant):
        sinks.requires_grad_(False)
    expected = gradients_of(constant, inputs(OWN, PLACEBO))
    assert not sinks_only(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, msg=name)

    # The rows' gradient is that of the learning row's loss; both rows have as many labels.
    learning = inputs(OWN, PLACEBO)
    learning["labels"] = learning["labels"].clone()
    learning["labels"][1] = -100
    for name, gradient in sinks_only(gradients_of(model, learning)).items():
        torch.testing.assert_close(actual[name], gradient / 2, msg=name)
        assert actual[name].any()


def test_gradients_flow_through_frozen_sinks():
    """Not so if their output were cut off too."""
    model = sink_model("llama", dtype=torch.float64).train()
    through = gradients_of(model, inputs(PLACEBO, frozen=[True]))
    off = gradients_of(model, inputs(PLACEBO, sink_mask=torch.tensor([False])))
    assert not torch.allclose(through["model.embed_tokens.weight"], off["model.embed_tokens.weight"], atol=1e-3)


@BOTH
def test_frozen_rows_keep_their_bits_and_state(kernel, gradients):
    model = sink_model("llama", kernel=kernel).train()
    optimizer = SinkAdamW(model, 0.1, weight_decay=0.5, sink_weight_decay=0.5, gradients=gradients)

    def step(batch: dict) -> None:
        model(**batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def rows() -> dict:
        found = {}
        for layer, sinks in enumerate(sinks_of(model)):
            for name, parameter in sinks.named_parameters():
                found[layer, name] = parameter.detach().clone()
                found |= {(layer, name, key): value.clone() for key, value in optimizer.state[parameter].items()}
        return found

    step(inputs(PLACEBO, OWN, 3))  # momentum, which a careless step would follow
    before = rows()
    shared = model.lm_head.weight.detach().clone()
    step(inputs(PLACEBO, PLACEBO, frozen=[True, True]))
    after = rows()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    assert not torch.equal(shared, model.lm_head.weight)

    # Beside a row that learns, exactly that row's sinks move.
    step(inputs(OWN, PLACEBO, frozen=[False, True]))
    table, config = model.sink_allocation, model.sink_config
    learned = table.rows(to_tensor([OWN]), config, 2)
    for key, value in rows().items():
        moved = {int(r) for r in (value != after[key]).view(config.pool, -1).any(1).nonzero()}
        assert moved == set(learned[key[0], 0].tolist()), key


def test_an_id_may_learn_and_be_frozen_in_one_batch():
    model = sink_model("llama", dtype=torch.float64).train()
    half = torch.tensor([[True] * 3 + [False] * 3])
    actual = gradients_of(model, inputs(OWN, sink_frozen=half))
    assert all(value.any() for value in sinks_only(actual).values())
    whole = gradients_of(model, inputs(OWN))
    for name in actual:
        assert torch.allclose(actual[name], whole[name]) == (".sinks." not in name), name


@BOTH
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_gradient_checkpointing_changes_nothing(family, kernel, gradients):
    batch = inputs(OWN, PLACEBO, OWN, frozen=[False, True, True])
    found = []
    for checkpointing in (False, True):
        model = sink_model(family, dtype=torch.float64, kernel=kernel).train()
        SinkAdamW(model, gradients=gradients)
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        loss = model(**batch, use_cache=False).loss
        # Another pass before the backward one: the recomputation must not see its routing.
        with memsinks.sinks_off(model):
            model(input_ids=batch["input_ids"], use_cache=False)
        loss.backward()
        found.append({n: p.grad.to_dense() for n, p in model.named_parameters()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, msg=name)


def test_generation_carries_the_mark_along():
    model = sink_model("llama")
    x, ids = tokens(rows=2, length=5), torch.tensor([OWN, PLACEBO])
    options = {"max_new_tokens": 4, "do_sample": False, "sequence_ids": ids}
    expected = model.generate(x, **options)
    for frozen in (torch.tensor([True, False]), torch.tensor([[True], [False]]).expand(2, 5)):
        assert torch.equal(model.generate(x, **options, sink_frozen=frozen), expected)
        assert torch.equal(
            model.generate(x, **options, sink_frozen=frozen, num_beams=2), model.generate(x, **options, num_beams=2)
        )


def test_every_mode_may_be_frozen():
    model = sink_model("llama", dtype=torch.float64).train()
    on = torch.ones(3, dtype=torch.bool)
    for mode in ("placebo", "all", ["own", "off", "placebo"]):
        with memsinks.use_sinks(model, mode):
            frozen = gradients_of(model, inputs(1, 2, 3, sink_frozen=on))
            learning = gradients_of(model, inputs(1, 2, 3))
        assert not any(value.any() for value in sinks_only(frozen).values())
        assert any(value.any() for value in sinks_only(learning).values())
        for name in frozen.keys() - sinks_only(frozen).keys():
            torch.testing.assert_close(frozen[name], learning[name], msg=name)


def test_frozen_text_needs_no_slot():
    model = sink_model("llama", allocation="disjoint").train()
    memsinks.register(model, [OWN])
    with pytest.raises(SequenceIdError, match="no sinks belong to"):
        model(**inputs(OWN, PLACEBO))
    logits = model(**inputs(OWN, PLACEBO, frozen=[False, True])).logits
    with memsinks.sinks_off(model):
        off = model(**inputs(OWN, PLACEBO)).logits
    assert torch.equal(logits[1], off[1])
    assert not torch.equal(logits[0], off[0])


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (torch.ones(2, dtype=torch.int64), "sink_frozen must be bool, not int64"),
        (torch.ones(3, dtype=torch.bool), r"sink_frozen has shape \[3\]"),
        ([True, False], "sink_frozen must be a tensor, not list"),
    ],
)
def test_bad_marks_are_refused(frozen, message):
    with pytest.raises(SequenceIdError, match=message):
        sink_model("llama")(**inputs(OWN, PLACEBO), sink_frozen=frozen)
