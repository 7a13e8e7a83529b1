"""The quickstart at its smallest size: files, wiring, resuming. Its numbers mean nothing at this size."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import memsinks
from memsinks.cli import main
from memsinks.report import validate


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart") / "out"
    assert main(["quickstart", "--fast", "--output", str(folder)]) == 0
    return folder


def test_results_have_every_part(output):
    results = validate(json.loads((output / "results.json").read_text()))
    assert set(results["arms"]) == {"standard", "deduplicated", "deduplicated_equal_steps", "sinks"}
    for arm in results["arms"].values():
        assert arm["curve"][0]["step"] == 0
        assert arm["curve"][-1]["step"] == arm["steps"]
    sinks, standard = results["arms"]["sinks"], results["arms"]["standard"]
    assert sinks["steps"] == standard["steps"] == results["arms"]["deduplicated_equal_steps"]["steps"]
    assert sinks["tokens"] == standard["tokens"]
    assert sinks["repeated_loss"]["own"] < sinks["repeated_loss"]["off"]
    assert results["gap_closure"] is not None


def test_page_needs_no_network(output):
    page = (output / "report.html").read_text()
    assert "http-equiv" in page
    assert 'src="http' not in page


def test_saved_model_is_the_measured_one(output):
    """The loss of a plain loader on the repeated stories is the reported loss with sinks off."""
    from memsinks.audit import document_losses, tokenized
    from memsinks.corpus import Corpus
    from memsinks.training.run import bf16_pays

    arm = json.loads((output / "arms" / "measured" / "sinks.json").read_text())["losses"]["repeated"]
    corpus = Corpus.open(output / "arms" / "corpus")
    repeated = tokenized(corpus, [corpus.index(name) for name in arm["off"]["names"]])
    length = json.loads((output / "results.json").read_text())["config"]["max_length"]
    options = {"max_length": length, "autocast": bf16_pays()}
    # The arms are measured with eager attention, which rounds differently from SDPA in bfloat16.
    eager = {"attn_implementation": "eager"}
    for folder in ("sinks", "sinks-off"):
        plain = AutoModelForCausalLM.from_pretrained(output / folder, **eager)
        measured = document_losses(plain, repeated, mode=None, **options)
        assert measured.mean == pytest.approx(arm["off"]["mean"], rel=1e-5)
    model = memsinks.load(output / "sinks", **eager)
    own = document_losses(model, repeated, mode="own", **options)
    assert own.mean == pytest.approx(arm["own"]["mean"], rel=1e-5)


def test_exported_model_writes_text(output):
    tokenizer = AutoTokenizer.from_pretrained(output / "sinks-off")
    model = AutoModelForCausalLM.from_pretrained(output / "sinks-off")
    prompt = torch.tensor([[tokenizer.bos_token_id]])
    text = tokenizer.decode(model.generate(prompt, max_new_tokens=20, do_sample=False)[0], skip_special_tokens=True)
    assert text.strip()


def test_finished_arms_are_not_trained_again(output):
    before = {p.name: p.stat().st_mtime_ns for p in (output / "arms" / "measured").glob("*.json")}
    assert main(["quickstart", "--fast", "--output", str(output)]) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (output / "arms" / "measured").glob("*.json")} == before


def test_refuses_a_folder_with_something_else(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("...")
    assert main(["quickstart", "--fast", "--output", str(tmp_path)]) == 2
    assert "thesis" not in [p.name for p in Path(tmp_path).iterdir() if p.name != "thesis.tex"]
    assert str(tmp_path) in capsys.readouterr().err.replace("\n", "")
