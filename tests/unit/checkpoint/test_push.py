"""Which files of a folder are uploaded, with a stand-in for the Hub."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoints_by_hand import saved
from commands import assert_refused
from families import sink_model
from huggingface_hub import HfApi

import memsinks
from memsinks.checkpoint.push import push
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.cli import main
from memsinks.errors import CheckpointError, InputError

PLAIN = {"config.json", "generation_config.json", "model.safetensors", "README.md"}
SINKS = {"sinks.safetensors", "sinks.json", "lineage.json", "trained.parquet"}


@pytest.fixture
def hub(monkeypatch):
    """What was asked of the Hub."""
    asked = SimpleNamespace(files={}, repo=None, there=set(), fails=None)

    def create_repo(self, repo_id, **options):
        if asked.fails:
            raise asked.fails
        asked.repo = (repo_id, options)
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, repo_id, operations, **options):
        asked.files = {o.path_in_repo: Path(o.path_or_fileobj).read_bytes() for o in operations}

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    monkeypatch.setattr(HfApi, "file_exists", lambda self, repo_id, name: name in asked.there)
    return asked


@pytest.fixture
def run(tmp_path):
    folder = saved(sink_model("llama"), tmp_path / "run")
    # What a run has besides; names of documents among it.
    for name in ("plan.parquet", "exposures.parquet", "run.toml", "metrics.jsonl", "run.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("include", [False, True])
def test_only_what_a_loader_reads_goes_up(run, hub, include):
    push(run, "ours/model", include_sinks=include, private=True)
    assert set(hub.files) == PLAIN | (SINKS if include else set())
    assert all(content == (run / name).read_bytes() for name, content in hub.files.items())
    assert hub.repo == ("ours/model", {"private": True, "exist_ok": True})


def test_sinks_that_are_there_from_before_are_warned_of(run, hub, capsys):
    hub.there = {"sinks.safetensors"}
    assert main(["push", str(run), "ours/model"]) == 0
    said = capsys.readouterr().out
    assert "sinks off" in said
    assert "warning: ours/model has sinks.safetensors from an earlier upload" in said


def test_an_export_with_sinks_in_its_weights_needs_to_be_told(run, hub, tmp_path):
    for mode in ("off", "all"):
        memsinks.export(sink_model("llama"), tmp_path / mode, mode=mode)
    push(tmp_path / "off", "ours/model")
    hub.files = {}
    with pytest.raises(InputError, match="--include-sinks"):
        push(tmp_path / "all", "ours/model")
    assert not hub.files
    push(tmp_path / "all", "ours/model", include_sinks=True)
    assert set(hub.files) == PLAIN


def test_what_is_not_to_be_published_is_refused(run, hub, tmp_path, capsys):
    (run / NOT_VERIFIED).write_text("{}")
    assert_refused(["push", str(run), "ours/model"], [NOT_VERIFIED, "not to be published"], tmp_path, capsys)
    (run / NOT_VERIFIED).unlink()
    (run / "sinks.json").unlink()
    with pytest.raises(CheckpointError, match=r"sinks\.json is missing"):
        push(run, "ours/model", include_sinks=True)
    with pytest.raises(InputError, match=r"no config\.json"):
        push(tmp_path, "ours/model")
    assert hub.repo is None


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_so(run, hub):
    hub.fails = OSError("no route to host")
    with pytest.raises(InputError, match=r"ours/model: cannot be uploaded to \(no route to host\)"):
        push(run, "ours/model")
