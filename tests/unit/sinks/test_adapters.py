"""An adapter where sinks cannot be exact beside it is refused, never silently wrong."""

import pytest
import torch
from families import sink_model, tokens

import memsinks
from memsinks import SinkConfig
from memsinks.errors import ConfigError, UnsupportedModelError

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
