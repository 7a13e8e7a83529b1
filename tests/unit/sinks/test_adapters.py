"""An adapter where sinks cannot be exact beside it is refused, never silently wrong."""

import warnings

import pytest
import torch
from families import sink_model, tokens

import memsinks
from memsinks import SinkConfig
from memsinks.errors import ConfigError, IsolationWarning, UnsupportedModelError
from memsinks.sinks.attach import sinks_of

peft = pytest.importorskip("peft")
# PEFT asks transformers for it by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapted(**options):
    return peft.get_peft_model(sink_model("llama"), peft.LoraConfig(r=2, **options))


def inputs() -> dict[str, torch.Tensor]:
    ids = tokens(1, 8)
    return {"input_ids": ids, "sequence_ids": torch.tensor([5])}


@pytest.mark.parametrize("copied", ["mlp", "up_proj", "down_proj"])
def test_a_copy_that_stands_in_for_the_mlp_is_an_error(copied):
    model = adapted(target_modules=["q_proj"], modules_to_save=[copied])
    with pytest.raises(UnsupportedModelError, match="modules_to_save"):
        model(**inputs())


def test_a_copy_of_something_else_is_fine():
    model = adapted(target_modules=["q_proj"], modules_to_save=["lm_head"])
    with torch.no_grad():
        on, off = model(**inputs()).logits, model(input_ids=inputs()["input_ids"]).logits
    assert not torch.equal(on, off)


def test_sinks_do_not_go_on_top_of_an_adapter():
    plain = memsinks.detach(sink_model("llama"))
    wrapped = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["down_proj"]))
    with pytest.raises(UnsupportedModelError, match="merge_and_unload"):
        memsinks.attach(wrapped.get_base_model(), SinkConfig(pool=8, active=2))


@pytest.mark.parametrize("use", ["save", "fold", "export", "detach"])
def test_a_model_with_an_adapter_in_it_is_not_taken_for_the_plain_one(use, tmp_path):
    model = adapted(target_modules="all-linear").get_base_model()
    arguments = {"fold": ["off"], "save": [tmp_path / "out"], "export": [tmp_path / "out"], "detach": []}[use]
    with pytest.raises(ConfigError, match="merge_and_unload"):
        getattr(memsinks, use)(model, *arguments)
    assert not (tmp_path / "out").exists()


def train_step(model, **changes):
    model.train()
    ids = inputs()["input_ids"]
    model(**{**inputs(), "labels": ids, **changes}).loss.backward()


def warnings_of(step) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", IsolationWarning)
        step()
    return [str(w.message) for w in found if w.category is IsolationWarning]


@pytest.mark.parametrize("options", [{"target_modules": "all-linear"}, {"target_modules": ["q_proj"]}])
def test_an_adapter_that_learns_from_text_with_sinks_is_warned_of_once(options):
    model = adapted(**options)
    first = warnings_of(lambda: train_step(model))
    assert len(first) == 1
    assert "memsinks.sinks_off" in first[0]
    assert not warnings_of(lambda: train_step(model))


def test_a_trainable_copy_beside_the_adapter_is_warned_of():
    model = adapted(target_modules=["q_proj"], modules_to_save=["lm_head"])
    for name, weight in model.named_parameters():
        weight.requires_grad_("modules_to_save" in name)
    assert warnings_of(lambda: train_step(model))


def test_no_warning_where_the_adapter_does_not_learn_from_text_with_sinks():
    def inference():
        model = adapted(target_modules=["q_proj"]).eval()
        model(**inputs())

    def no_gradient():
        model = adapted(target_modules=["q_proj"]).train()
        with torch.no_grad():
            model(**inputs())

    def without_adapter():
        train_step(sink_model("llama"))

    def frozen_adapter():
        model = adapted(target_modules=["q_proj"])
        model.requires_grad_(False)
        for sinks in sinks_of(model):
            sinks.requires_grad_(True)
        train_step(model)

    for step in (inference, no_gradient, without_adapter, frozen_adapter):
        assert not warnings_of(step), step.__name__


def test_text_with_sinks_off_does_not_use_the_warning_up():
    model = adapted(target_modules=["q_proj"])

    def off():
        with memsinks.sinks_off(model):
            train_step(model)

    nothing = torch.zeros(1, 8, dtype=torch.bool)
    assert not warnings_of(off)
    assert not warnings_of(lambda: train_step(model, sink_mask=nothing))
    # Frozen sinks stand beside ungoverned text.
    assert not warnings_of(lambda: train_step(model, sink_frozen=~nothing))
    assert warnings_of(lambda: train_step(model))
