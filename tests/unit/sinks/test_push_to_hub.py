"""What an upload holds, with a stand-in for the hub."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from families import plain_model, sink_model
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModelForCausalLM
from transformers.utils import hub

import memsinks
from memsinks.errors import ConfigError

SINKS = {"sinks.safetensors", "sinks.json"}


@pytest.fixture
def uploaded(monkeypatch, tmp_path):
    """A folder that has what was committed."""
    place = tmp_path / "hub"

    def create_repo(self, repo_id, **options):
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, repo_id, operations, **options):
        for operation in operations:
            target = place / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(operation.path_or_fileobj).read_bytes())
        return SimpleNamespace(commit_url=repo_id)

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    for module in (hub, __import__("transformers.modeling_utils", fromlist=["_"])):
        monkeypatch.setattr(module, "create_and_tag_model_card", lambda *args, **options: ModelCard("---\n---\n"))
    return place


def push(model, folder, include):
    options = {} if include is None else {"include_sinks": include}
    model.push_to_hub("ours/model", **options)


def save_and_push(model, folder, include):
    options = {} if include is None else {"include_sinks": include}
    model.save_pretrained(folder, push_to_hub=True, repo_id="ours/model", **options)


@pytest.mark.parametrize("way", [push, save_and_push])
@pytest.mark.parametrize("include", [None, False, True])
def test_sinks_go_up_only_when_told(way, include, uploaded, tmp_path, caplog):
    model = sink_model("llama")
    with caplog.at_level(logging.WARNING):
        way(model, tmp_path / "local", include)
    names = {path.name for path in uploaded.iterdir()}
    assert {"config.json", "model.safetensors"} <= names
    assert names & SINKS == (SINKS if include else set())
    said = "uploading the sinks too" if include else "without its sinks"
    assert [said in record.message for record in caplog.records if record.name.startswith("memsinks")] == [True]
    plain = AutoModelForCausalLM.from_pretrained(uploaded)
    inputs = torch.arange(3, 11)[None]
    with torch.no_grad(), memsinks.sinks_off(model):
        assert torch.equal(plain(inputs).logits, model(inputs).logits)
    if include:
        ids = torch.tensor([5])
        with torch.no_grad():
            assert torch.equal(
                memsinks.load(uploaded)(inputs, sequence_ids=ids).logits, model(inputs, sequence_ids=ids).logits
            )


def test_what_is_saved_while_pushing_has_its_sinks_all_the_same(uploaded, tmp_path):
    save_and_push(sink_model("llama"), tmp_path / "local", False)
    assert {path.name for path in (tmp_path / "local").iterdir()} >= SINKS


@pytest.mark.parametrize("include", [False, True])
def test_older_sinks_in_the_folder_change_nothing(include, uploaded, tmp_path):
    folder = tmp_path / "local"
    sink_model("llama", seed=1).save_pretrained(folder)
    old = (folder / "sinks.safetensors").read_bytes()
    save_and_push(sink_model("llama"), folder, include)
    assert {path.name for path in uploaded.iterdir()} & SINKS == (SINKS if include else set())
    assert (folder / "sinks.safetensors").read_bytes() != old
    if include:
        assert (uploaded / "sinks.safetensors").read_bytes() == (folder / "sinks.safetensors").read_bytes()


def test_a_choice_holds_for_one_upload(uploaded, tmp_path):
    model = sink_model("llama")
    push(model, None, True)
    for path in uploaded.iterdir():
        path.unlink()
    push(model, None, None)
    assert not {path.name for path in uploaded.iterdir()} & SINKS


def test_an_option_that_would_do_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="push_to_hub=True"):
        sink_model("llama").save_pretrained(tmp_path / "out", include_sinks=True)
    with pytest.raises(ConfigError, match="distributed"):
        sink_model("llama").save_pretrained(tmp_path / "out", distributed_checkpoint=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_model_with_an_adapter_in_it_is_not_uploaded_as_the_plain_one(uploaded, tmp_path):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(sink_model("llama"), peft.LoraConfig(r=2, target_modules="all-linear"))
    with pytest.raises(ConfigError, match="merge_and_unload"):
        model.get_base_model().push_to_hub("ours/model")
    assert not uploaded.exists()


def test_a_plain_model_is_pushed_as_ever(uploaded):
    push(plain_model("llama"), None, None)
    assert "model.safetensors" in {path.name for path in uploaded.iterdir()}
