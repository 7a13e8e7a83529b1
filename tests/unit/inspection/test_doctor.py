"""Each kind of trouble is found, and nothing is found where there is none."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints_by_hand import IDS, after_removal, array, lineage, removal, saved, stage
from families import sink_model
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import memsinks
from memsinks.checkpoint.lineage import Lineage
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.cli import main
from memsinks.errors import InputError
from memsinks.inspection import environment
from memsinks.inspection.doctor import check_folder
from memsinks.inspection.environment import check_environment
from memsinks.sinks.files import METADATA


def problems(folder: Path) -> dict[str, str]:
    return {found.name: found.says for found in check_folder(folder) if found.kind == "problem"}


@pytest.fixture
def removed(model, tmp_path) -> Path:
    """A checkpoint from which two IDs were removed."""
    return after_removal(model, tmp_path / "run", [1, 2])


def test_nothing_is_wrong_with_whole_checkpoints(run, tmp_path):
    assert problems(run) == {}
    assert problems(after_removal(sink_model("llama"), tmp_path / "after", [1, 2])) == {}
    everything = sink_model("llama")
    memsinks.remove(everything, None)
    history = lineage().with_removal(removal(IDS, everything=True), array(IDS), array(IDS))
    assert problems(saved(everything, tmp_path / "all", history)) == {}


def test_every_remedy_is_given(removed):
    (removed / NOT_VERIFIED).write_text("{}")
    (removed.parent / ".run.removal-r-2").mkdir()
    found = [f for f in check_folder(removed) if f.kind == "problem"]
    assert {f.name for f in found} == {"verification", "unfinished removal"}
    assert all(f.remedy for f in found)


def test_a_removal_that_took_the_checkpoint_away_half_way_is_found(tmp_path):
    (tmp_path / ".gone.removal-r-2").mkdir()
    assert set(problems(tmp_path / "gone")) == {"unfinished removal"}
    with pytest.raises(InputError, match="no such folder"):
        problems(tmp_path / "never")


def test_what_a_removal_left_is_found(removed):
    (removed.parent / ".run.finished-removal-r-1").mkdir()
    assert "leftover" in problems(removed)


def test_altered_sinks_are_found(run):
    data = (run / "sinks.safetensors").read_bytes()
    (run / "sinks.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "altered" in problems(run)["sinks"]


def test_a_table_that_is_not_that_of_the_tensors_is_found(removed):
    content = json.loads((removed / METADATA).read_text())
    content["allocation"]["removed"]["ids"] = 1
    (removed / METADATA).write_text(json.dumps(content))
    assert "allocation" in problems(removed)["sinks"]


def test_a_lineage_that_cannot_be_read_is_found(run):
    (run / "lineage.json").write_text("{")
    assert "cannot be read" in problems(run)["lineage"]


def test_ids_that_only_one_of_sinks_and_lineage_knows_as_removed_are_found(model, run, tmp_path):
    history = lineage().with_removal(removal([3]), array([3]), array([3]))
    assert "the sinks do not know" in problems(saved(model, tmp_path / "restored", history))["lineage"]
    memsinks.remove(model, [4])
    assert "not in the lineage" in problems(saved(model, tmp_path / "by-hand"))["lineage"]


def test_a_removed_id_that_owns_rows_is_found(tmp_path):
    model = sink_model("llama", allocation="disjoint")
    memsinks.register(model, [1, 2])
    history = lineage().with_removal(removal([2]), array([2]), array([2]))
    assert "0000000000000002" in problems(saved(model, tmp_path / "run", history))["owners"]


def test_checkpoints_from_before_a_removal_are_found(removed):
    memsinks.save(sink_model("llama"), removed.parent / "run-run" / "checkpoint-10")
    assert "checkpoint-10" in problems(removed)["resume checkpoint"]


def test_checkpoints_from_after_a_removal_are_fine(model, removed):
    memsinks.save(model, removed.parent / "run-run" / "checkpoint-10")
    assert "resume checkpoint" not in problems(removed)


@pytest.mark.parametrize(
    ("mode", "ids", "wrong"), [("chosen", (1,), True), ("chosen", (3,), False), ("off", (), False)]
)
def test_exports_of_removed_ids_are_found(removed, tmp_path, mode, ids, wrong):
    memsinks.export(sink_model("llama"), tmp_path / "served", mode=memsinks.Mode(mode, ids))
    assert ("export" in problems(removed)) == wrong


def test_an_export_of_all_sinks_is_judged_by_the_sinks_that_it_was_made_of(model, run, tmp_path):
    memsinks.export(model, tmp_path / "old", mode="all", origin=run)
    before = json.loads((run / METADATA).read_text())["tensors"]["sha256"]
    memsinks.remove(model, [1])
    history = lineage().with_removal(removal([1], before=before), array([1]), array([1]))
    saved(model, run, history)
    assert "old" in problems(run)["export"]
    (tmp_path / "old").rename(tmp_path / ".old")
    memsinks.export(model, tmp_path / "new", mode="all", origin=run)
    assert "export" not in problems(run)


def test_an_export_without_a_hash_is_judged_by_its_time(removed, tmp_path):
    memsinks.export(sink_model("llama"), tmp_path / "served", mode="all")
    assert "export" not in problems(removed)
    os.utime(tmp_path / "served" / "memsinks-export.json", (0, 0))
    assert "export" in problems(removed)


def with_corpus(run: Path, content: bytes) -> Path:
    corpus = run.parent / "corpus"
    corpus.mkdir()
    (corpus / "manifest.json").write_bytes(content)
    (run / "run.toml").write_text(f'[corpus]\npath = "{corpus}"\n')
    return corpus


def test_the_corpus_is_compared_with_the_lineage(run):
    corpus = with_corpus(run, b"{}")
    replace_stage(run, hashlib.sha256(b"{}").hexdigest())
    assert problems(run) == {}
    (corpus / "manifest.json").write_bytes(b"{ }")
    assert "not the one that the model was trained on" in problems(run)["corpus"]
    (corpus / "manifest.json").unlink()
    assert "not there" in problems(run)["corpus"]


def replace_stage(run: Path, corpus: str) -> None:
    history = Lineage.read(run)
    replace(history, stages=(stage(corpus),)).write(run)


def test_a_tokenizer_with_more_tokens_than_the_model_is_found(run):
    words = {f"w{i}": i for i in range(70)}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w0"))).save_pretrained(run)
    assert "70 tokens and the model knows 61" in problems(run)["tokenizer"]


def test_a_cut_plain_file_is_found(run):
    data = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(data[:-4])
    assert "ends in the middle" in problems(run)["plain model"]


def test_the_environment_of_these_tests_is_fine():
    found = {finding.name: finding for finding in check_environment()}
    assert found["libraries"].kind == "ok"
    assert found["bf16"].kind in ("ok", "note")


def test_a_library_outside_its_range_and_a_missing_extra_are_found(monkeypatch):
    real = environment.version
    fake = {"transformers": "6.0", "plotly": None}

    def version(name):
        if name in fake and fake[name] is None:
            raise environment.PackageNotFoundError(name)
        return fake.get(name) or real(name)

    monkeypatch.setattr(environment, "version", version)
    found = {finding.name: finding for finding in check_environment()}
    assert found["transformers"].kind == "problem"
    assert "pip install 'transformers" in found["transformers"].remedy
    assert (found["extra report"].kind, "plotly" in found["extra report"].says) == ("note", True)


def test_more_threads_than_cores_are_found(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    found = {finding.name: finding for finding in check_environment()}
    assert found["threads"].kind == "problem"


def test_the_command_ends_with_1_if_anything_is_wrong(run, capsys):
    assert main(["doctor", str(run)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    (run / NOT_VERIFIED).write_text("{}")
    assert main(["doctor", str(run), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["problems"], content["format_version"]) == (1, 1)
