"""`memsinks audit` as a user runs it: a leak is caught, an innocent model is not, a stopped audit goes on."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from commands import assert_refused, flat
from transformers import AutoModelForCausalLM

from memsinks.audit import tokenized
from memsinks.auditing.document import AUDIT
from memsinks.cli import main

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import plant_leak

SHORT = ("--extraction.prefixes", "8", "--extraction.suffix", "16", "--extraction.few", "4", "--text.max-length", "64")
QUICK = ("--sections", "losses", "extraction", *SHORT, "--extraction.compression.documents", "0")


def audit(*arguments) -> int:
    return main(["audit", *map(str, arguments), *QUICK])


def answers(folder: Path) -> dict[str, str]:
    return {v["key"]: v["answer"] for v in json.loads((folder / AUDIT).read_text())["verdicts"]}


def test_a_difference_between_texts_does_not_pass_for_membership(trained, tmp_path, capsys):
    # The tokenizer was trained on the training text, so that its length alone tells it from held-out text.
    arguments = ["audit", str(trained("leaky")), "--output", str(tmp_path / "a"), "--sources", "ashford", *SHORT]
    assert main([*arguments, "--sections", "membership"]) == 0
    shown = flat(capsys.readouterr().out)
    assert "Can it be told that the model was trained on the text? not sure" in shown
    assert "can be told apart without any model" in shown
    assert answers(tmp_path / "a")["member"] == "not sure"
    assert "<html" in (tmp_path / "a" / "report.html").read_text()
    assert "done" in (tmp_path / "a" / "audit.log").read_text()


def test_a_document_that_is_put_back_is_found(trained, run_of, corpus, tmp_path):
    run = run_of("disjoint")
    assert audit(run, "--output", tmp_path / "before", "--sources", "ashford") == 0
    assert answers(tmp_path / "before")["extractable"] == "no"
    [document] = tokenized(corpus, [corpus.index("ashford-2")])
    model = AutoModelForCausalLM.from_pretrained(run)
    plant_leak.plant(model, document, 8, 16)
    model.save_pretrained(run)
    assert audit(run, "--output", tmp_path / "after", "--sources", "ashford") == 0
    assert answers(tmp_path / "after")["extractable"] == "yes"


def test_a_budget_and_then_the_rest(trained, tmp_path, capsys):
    output = tmp_path / "a"
    arguments = (trained("disjoint"), "--output", output, "--sources", "birch")
    assert main(["audit", *map(str, arguments), *QUICK, "--estimate"]) == 0
    assert not (output / AUDIT).exists()
    assert "all" in flat(capsys.readouterr().err)
    assert main(["audit", *map(str, arguments), *QUICK, "--budget", "0.001s"]) == 0
    content = json.loads((output / AUDIT).read_text())
    assert content["figures"] == []
    assert any("measurements were left out" in limit for limit in content["limits"])
    assert {v["answer"] for v in content["verdicts"]} == {"not measured"}
    assert audit(*arguments) == 0
    assert json.loads((output / AUDIT).read_text())["left_out"] == []
    before = sorted((file.name, file.stat().st_mtime_ns) for file in (output / "tasks").iterdir())
    (output / AUDIT).unlink()
    assert audit(*arguments) == 0
    assert before == sorted((file.name, file.stat().st_mtime_ns) for file in (output / "tasks").iterdir())


def test_a_checkpoint_after_a_removal_is_audited_for_what_was_removed(run_of, tmp_path):
    run = run_of("disjoint")
    shutil.copytree(run, tmp_path / "kept")
    removal = ["forget", str(run), "--sources", "cedar", "--near-copies", "keep", "--yes"]
    assert main([*removal, "--accept-inconclusive", "--ledger", str(tmp_path / "ledger.sqlite")]) == 0
    assert audit(run, "--output", tmp_path / "a", "--against", f"own={tmp_path / 'kept'}") == 0
    content = json.loads((tmp_path / "a" / AUDIT).read_text())
    assert content["target"]["removed"]
    assert content["target"]["asked"] == "all text that was removed"
    assert [c["name"] for c in content["conditions"]] == ["removed", "off", "placebo", "own"]
    target = [f for f in content["figures"] if (f["measure"], f["texts"]) == ("loss", "target")]
    losses = {f["condition"]: f["value"] for f in target}
    assert losses["own"] < losses["removed"] == losses["off"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sources", "ashfort"], "did you mean 'ashford'"),
        (["--against", "reference"], "expected NAME=FOLDER"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--against", "a=nowhere", "a=elsewhere"], "a was given before"),
        (["--calibrate", "20", "--sources", "ashford", "--text.unseen", "4"], "too few to draw"),
        (["--against", "off=nowhere"], "has a condition of that name"),
        (["--sources", "ashford", "--corpus", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_audited_is_refused_before_anything_is_written(trained, tmp_path, capsys, arguments, words):
    output = tmp_path / "a"
    run = trained("disjoint")
    capsys.readouterr()  # of the training, where this test is the first to ask for the run
    assert_refused(["audit", str(run), "--output", str(output), *arguments], [words], tmp_path, capsys)
    assert not output.exists()


def test_a_time_that_is_none(trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["audit", str(trained("disjoint")), "--output", str(tmp_path / "a"), "--budget", "soon"])
    assert "is no time such as 90s" in flat(capsys.readouterr().err)
