"""What training with ``push_to_hub=True`` uploads, with a stand-in for the Hub."""

import json
import logging
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from families import plain_model, sink_model, tokens
from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects
from transformers import AutoModelForCausalLM, TrainingArguments

import memsinks
from memsinks import SinkTrainer
from memsinks.errors import ConfigError
from memsinks.stream import Collator

SINKS = {"sinks.safetensors", "sinks.json"}
PLAIN = {"config.json", "generation_config.json", "model.safetensors"}
ROWS = [{"input_ids": list(range(3, 11)), "sequence_ids": [i % 4] * 8, "exposed_ids": [i % 4]} for i in range(12)]


@pytest.fixture
def hub(monkeypatch):
    """Every upload: what it had, by name. The Hub's library itself says which files a pattern means."""
    uploads = []

    def create_repo(self, repo_id, **options):
        return SimpleNamespace(repo_id=f"ours/{repo_id}")

    def upload_folder(self, *, folder_path, commit_message, run_as_future, path_in_repo="", **options):
        root = Path(folder_path)
        names = (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())
        patterns = {key: value for key, value in options.items() if key.endswith("_patterns")}
        chosen = filter_repo_objects(names, **patterns)
        files = {str(Path(path_in_repo) / name): (root / name).read_bytes() for name in chosen}
        uploads.append((commit_message, files))
        done = Future()
        done.set_result(commit_message)
        return done if run_as_future else commit_message

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    return uploads


def trainer(directory, model=None, *, push_sinks=False, **options):
    settings = {
        "per_device_train_batch_size": 3,
        "max_steps": 4,
        "save_steps": 2,
        "learning_rate": 1e-2,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "push_to_hub": True,
    }
    return SinkTrainer(
        model or sink_model("llama"),
        TrainingArguments(output_dir=str(directory), **{**settings, **options}),
        train_dataset=ROWS,
        data_collator=Collator(0, with_exposures=True),
        push_sinks=push_sinks,
    )


def names(upload):
    return set(upload[1])


def test_saves_and_the_end_upload_the_plain_model_alone(hub, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        made = trainer(tmp_path / "out")
    assert "without its sinks" in caplog.text
    made.train()
    assert [message for message, _ in hub] == ["Training in progress, step 2", "Training in progress, step 4"]
    made.push_to_hub()
    assert hub[-1][0] == "End of training"
    assert all(names(upload) - {"README.md"} == PLAIN for upload in hub)
    # The folders here have everything all the same.
    for folder in (tmp_path / "out", tmp_path / "out" / "checkpoint-4"):
        assert {path.name for path in folder.iterdir()} >= PLAIN | SINKS
    # An upload is the model of its step, with sinks off.
    for (_, files), step in zip(hub[:2], (2, 4), strict=True):
        assert (
            files["model.safetensors"] == (tmp_path / "out" / f"checkpoint-{step}" / "model.safetensors").read_bytes()
        )
    there = tmp_path / "there"
    there.mkdir()
    for name, content in hub[-1][1].items():
        (there / name).write_bytes(content)
    with torch.no_grad(), memsinks.sinks_off(made.model):
        assert torch.equal(
            AutoModelForCausalLM.from_pretrained(there)(input_ids=tokens()).logits,
            made.model.eval()(input_ids=tokens()).logits,
        )


def test_so_does_saving_the_model(hub, tmp_path):
    made = trainer(tmp_path / "out", save_strategy="no")
    made.train()
    assert not hub
    made.save_model()
    assert hub[0][0] == "Model save"
    assert names(hub[0]) - {"README.md"} == PLAIN


def test_sinks_go_up_when_told(hub, tmp_path):
    made = trainer(tmp_path / "out", push_sinks=True)
    made.train()
    made.push_to_hub(commit_message="All of it", tags=["ours"])
    assert [names(upload) - {"README.md"} for upload in hub] == [PLAIN | SINKS] * 3
    assert b"ours" in hub[-1][1]["README.md"]
    for (_, files), step in zip(hub[:2], (2, 4), strict=True):
        saved = tmp_path / "out" / f"checkpoint-{step}" / "sinks.safetensors"
        assert files["sinks.safetensors"] == saved.read_bytes()


def test_whole_checkpoints_need_to_be_told_and_are_whole_then(hub, tmp_path):
    for strategy in ("checkpoint", "all_checkpoints"):
        with pytest.raises(ConfigError, match="push_sinks=True"):
            trainer(tmp_path / "out", hub_strategy=strategy)
    assert not (tmp_path / "out").exists()
    trainer(tmp_path / "out", hub_strategy="all_checkpoints", push_sinks=True).train()
    assert [message for message, _ in hub][1] == "Training in progress, step 2, checkpoint"
    folder = tmp_path / "out" / "checkpoint-2"
    assert names(hub[1]) == {f"checkpoint-2/{path.name}" for path in folder.iterdir()}
    assert json.loads(hub[1][1]["checkpoint-2/checkpoint.json"])["step"] == 2


def test_nothing_is_uploaded_at_saves_until_the_end_if_so_told(hub, tmp_path):
    made = trainer(tmp_path / "out", hub_strategy="end")
    made.train()
    assert not hub
    made.push_to_hub()
    assert len(hub) == 1


def test_a_model_without_sinks_is_uploaded_as_transformers_does(hub, tmp_path):
    made = trainer(tmp_path / "out", model=plain_model("llama"))
    made.train()
    assert len(hub) == 2
    assert names(hub[0]) >= {*PLAIN, "training_args.bin"}
    with pytest.raises(ConfigError, match="no sinks"):
        trainer(tmp_path / "other", model=plain_model("llama"), push_sinks=True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_in_it_is_no_plain_model(hub, tmp_path):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(sink_model("llama"), peft.LoraConfig(r=2, target_modules="all-linear"))
    with pytest.raises(ConfigError, match="merge_and_unload"):
        trainer(tmp_path / "out", model=model)
    with pytest.raises(ConfigError, match="merge_and_unload"):
        trainer(tmp_path / "out", model=model, push_to_hub=False).push_to_hub()
    assert not hub
