"""The family matrix: every supported family against independent oracles."""

import copy

import pytest
import torch
from families import FAMILY_NAMES, LAYERS, plain_model, sink_model, tokens
from transformers import AutoConfig, AutoModelForCausalLM

import memsinks
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.families import FAMILIES, sites
from memsinks.sinks.selection import select

pytestmark = pytest.mark.parametrize("family", FAMILY_NAMES)
every_placement = pytest.mark.parametrize("layers", [(), (1,)], ids=["all layers", "layer 1"])
"""Layers with sinks."""


def test_matrix_covers_every_supported_family(family):
    assert set(FAMILY_NAMES) == set(FAMILIES)


def widened(model, sequence_id: int):
    """A stock model with the ID's sinks copied in by hand, unit by unit, without memsinks' own folding code."""
    plain = memsinks.detach(copy.deepcopy(model))
    spec = FAMILIES[plain.config.model_type]
    pool, active = model.sink_config.pool, model.sink_config.active
    config = copy.deepcopy(plain.config)
    width = getattr(config, spec.width) or 4 * config.hidden_size
    setattr(config, spec.width, width + active)
    wide = AutoModelForCausalLM.from_config(config, dtype=plain.dtype).eval()
    rows = select(torch.tensor([sequence_id]), seed=0, layers=LAYERS, pool=pool, active=active)[:, 0]
    sinks_by_layer = {sinks.layer_index: sinks for sinks in sinks_of(model)}
    with torch.no_grad():
        own = dict(plain.named_parameters())
        for name, parameter in wide.named_parameters():
            if parameter.shape == own[name].shape:
                parameter.copy_(own[name])
        for layer, (there, here) in enumerate(zip(sites(wide), sites(plain), strict=True)):
            sinks = sinks_by_layer.get(layer)
            for unit in range(width + active):
                row = None if unit < width else int(rows[layer][unit - width])
                for name in ("up", "down", "gate"):
                    target, source = getattr(there, name), getattr(here, name)
                    if target is None:
                        continue
                    columns = spec.transposed ^ (name == "down")
                    if row is None:
                        value, bias = source.weight[(..., unit) if columns else unit], source.bias
                        bias = None if bias is None or name == "down" else bias[unit]
                    elif sinks is None:
                        value = bias = 0.0
                    else:
                        value, bias = getattr(sinks, name)[row], getattr(sinks, f"{name}_bias", None)
                        bias = None if bias is None else bias[row, 0]
                    target.weight[(..., unit) if columns else unit] = value
                    if name != "down" and target.bias is not None:
                        target.bias[unit] = bias
    return wide, rows


@every_placement
@pytest.mark.parametrize("kernel", ["gathered", "dense"])
def test_equals_a_physically_widened_stock_model(family, kernel, layers):
    model = sink_model(family, dtype=torch.float64, kernel=kernel, layers=layers)
    assert [sinks.layer_index for sinks in sinks_of(model)] == list(layers or range(LAYERS))
    x, sequence_id = tokens(), 77
    wide, rows = widened(model, sequence_id)
    ids = torch.full((len(x),), sequence_id)
    ours = model(input_ids=x, labels=x, sequence_ids=ids)
    theirs = wide(input_ids=x, labels=x)
    assert not torch.allclose(ours.logits, model(input_ids=x).logits, atol=1e-3)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-10, rtol=0)
    ours.loss.backward()
    theirs.loss.backward()
    spec = FAMILIES[family]
    sinks_by_layer = {sinks.layer_index: sinks for sinks in sinks_of(model)}
    for layer, (there, here) in enumerate(zip(sites(wide), sites(model), strict=True)):
        sinks = sinks_by_layer.get(layer)
        for name in ("up", "down", "gate"):
            if getattr(there, name) is None:
                continue
            grad = getattr(there, name).weight.grad
            grad = grad.T if spec.transposed ^ (name == "down") else grad
            own = getattr(here, name).weight.grad
            own = own.T if spec.transposed ^ (name == "down") else own
            if sinks is None:
                torch.testing.assert_close(own, grad[: len(own)], atol=1e-10, rtol=0)
                continue
            expected = torch.cat([own, getattr(sinks, name).grad[rows[layer]]])
            torch.testing.assert_close(expected, grad, atol=1e-10, rtol=0)
            idle = torch.ones(model.sink_config.pool, dtype=torch.bool)
            idle[rows[layer]] = False
            assert not getattr(sinks, name).grad[idle].any()
            if name != "down" and getattr(there, name).bias is not None:
                bias = torch.cat([getattr(here, name).bias.grad, getattr(sinks, f"{name}_bias").grad[rows[layer], 0]])
                torch.testing.assert_close(bias, getattr(there, name).bias.grad, atol=1e-10, rtol=0)
    there_embedding, here_embedding = wide.get_input_embeddings(), model.get_input_embeddings()
    torch.testing.assert_close(here_embedding.weight.grad, there_embedding.weight.grad, atol=1e-10, rtol=0)


@every_placement
def test_sinks_off_is_bitwise_the_plain_model(family, layers):
    x = tokens()
    plain = plain_model(family)(input_ids=x).logits
    model = sink_model(family, layers=layers)
    with memsinks.sinks_off(model):
        assert torch.equal(model(input_ids=x, sequence_ids=torch.arange(3)).logits, plain)
    assert torch.equal(model(input_ids=x).logits, plain)
    masked = model(input_ids=x, sequence_ids=torch.arange(3), sink_mask=torch.tensor([True, False, True])).logits
    assert torch.equal(masked[1], plain[1])
    assert not torch.equal(masked[0], plain[0])


@every_placement
def test_save_and_load(family, layers, tmp_path):
    model, x, ids = sink_model(family, layers=layers), tokens(), torch.arange(3)
    memsinks.save(model, tmp_path / "run")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    assert type(plain).__name__ == type(model).__name__
    assert torch.equal(plain(input_ids=x).logits, model(input_ids=x).logits)
    loaded = memsinks.load(tmp_path / "run")
    assert torch.equal(loaded(input_ids=x, sequence_ids=ids).logits, model(input_ids=x, sequence_ids=ids).logits)
    assert AutoConfig.from_pretrained(tmp_path / "run").architectures == [type(model).__name__]


@every_placement
def test_folded_model_equals_the_mode(family, layers):
    model, x = sink_model(family, dtype=torch.float64, layers=layers), tokens()
    for mode in ("all", "placebo", memsinks.Mode("chosen", (5, 2**64 - 1)), "off"):
        folded = memsinks.fold(model, mode)
        with memsinks.use_sinks(model, mode):
            torch.testing.assert_close(folded(input_ids=x).logits, model(input_ids=x).logits, atol=1e-10, rtol=0)


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_cache_equals_without(family, beams):
    model, x = sink_model(family, dtype=torch.float64), tokens(rows=4)
    x[0, :5], mask = 0, torch.ones_like(x)
    mask[0, :5] = 0
    per_token = torch.arange(4)[:, None].repeat(1, x.shape[1])
    per_token[:, :6] += 50
    modes = ("own", "off", "placebo", memsinks.Mode("chosen", (1, 9)))
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": beams}
    outputs = []
    for ids in (torch.arange(4), per_token):
        # Beam search turns each row into several, so modes by row are for greedy search only.
        with memsinks.use_sinks(model, modes if beams == 1 else "own"):
            results = [
                model.generate(x, attention_mask=mask, sequence_ids=ids, use_cache=cache, **options)
                for cache in (True, False)
            ]
        assert torch.equal(*results)
        outputs.append(results[0])
    with memsinks.sinks_off(model):
        off = model.generate(x, attention_mask=mask, sequence_ids=torch.arange(4), **options)
    assert not torch.equal(off, outputs[0])


@every_placement
def test_gradient_checkpointing_keeps_ids_and_gradients(family, layers):
    gradients = []
    for checkpointing in (False, True):
        model, x = sink_model(family, dtype=torch.float64, layers=layers).train(), tokens()
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        # Two forwards before either backward: IDs kept on the side would be the second's in the first's backward.
        with memsinks.use_sinks(model, "own"):
            first = model(input_ids=x, labels=x, sequence_ids=torch.tensor([1, 2, 3]), use_cache=False).loss
        with memsinks.sinks_placebo(model):
            second = model(input_ids=x, labels=x, use_cache=False).loss
        first.backward()
        second.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, atol=1e-10, rtol=1e-10, msg=name)
