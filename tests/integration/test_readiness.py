"""``memsinks readiness`` as a user runs it."""

import json
import random

import pytest
from commands import assert_refused, flat

from memsinks.cli import main
from memsinks.corpus import Corpus

RUN = """
output = '{root}/run'
[corpus]
path = '{root}/corpus'
[model]
hidden = 16
layers = 2
heads = 2
width = 40
[exposures]
govern = "sources"
govern_values = ["p0", "p1"]
upsample = {{ "p0" = 5.0 }}
[sinks]
allocation = "disjoint"
active = 64
[stream]
max_length = 32
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus of four sources, and a run file that governs two of them."""
    root = tmp_path_factory.mktemp("readiness")
    with (root / "rows.jsonl").open("w") as file:
        for i in range(60):
            words = random.Random(i).choices(["sea", "ship", "storm", "sail", "mast", "crew", "port", "wave"], k=30)
            row = {"id": f"d{i}", "source": f"p{i % 4}", "text": f"Number {i}: {' '.join(words)}", "out": i % 10 == 0}
            file.write(json.dumps(row) + "\n")
    arguments = ["--source-column", "source", "--vocab-size", "290", "--validation-column", "out", "--ids", "source"]
    assert main(["prepare", str(root / "rows.jsonl"), "--output", str(root / "corpus"), *arguments]) == 0
    (root / "run.toml").write_text(RUN.format(root=root))
    return root


def test_what_is_shown_is_what_is_written(root, capsys):
    assert main(["readiness", str(root / "run.toml"), "--unit", "source", "--output", str(root / "ready")]) == 0
    shown = flat(capsys.readouterr().out)
    content = json.loads((root / "ready" / "readiness.json").read_text())
    page = (root / "ready" / "readiness.md").read_text()
    assert content["corpus_sha256"] == Corpus.open(root / "corpus").hash
    assert [a["code"] for a in content["answers"]] == [
        "data", "metadata", "capability", "removal", "threats", "deployment",
    ]  # fmt: skip
    for found in content["answers"]:
        assert found["verdict"].upper() in shown
        assert flat(found["says"]) in shown
        assert found["says"] in page
    assert content["trial"] is None
    assert "memsinks reproduce id-noise" in page


def test_a_trial_answers_what_was_not_measured(root, capsys):
    options = ["--trial", "--trial-tokens", "4000", "--serving", "fold", "--attacker", "outputs"]
    assert main(["readiness", str(root / "run.toml"), *options, "--output", str(root / "tried")]) == 0
    content = json.loads((root / "tried" / "readiness.json").read_text())
    by_code = {a["code"]: a for a in content["answers"]}
    assert by_code["capability"]["verdict"] != "not measured"
    assert content["trial"]["rows"]
    assert (root / "tried-trial" / "measured" / "sinks.json").is_file()
    # A few steps memorise nothing, and the report says that it cannot tell.
    assert by_code["threats"]["verdict"] == by_code["deployment"]["verdict"] == "not measured"
    assert "Even standard training did not memorise" in by_code["deployment"]["says"]


def test_options_override_the_run_file(root, capsys):
    options = ["--sinks.allocation", "hashed", "--sinks.pool", "80", "--sinks.active", "40", "--remove", "1"]
    assert main(["readiness", str(root / "run.toml"), *options, "--output", str(root / "hashed")]) == 0
    content = json.loads((root / "hashed" / "readiness.json").read_text())
    removal = next(a for a in content["answers"] if a["code"] == "removal")
    assert removal["verdict"] == "not ready"
    assert content["config"]["sinks"]["pool"] == 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trial"], ["--trial", "--output"]),
        (["--trial", "--trial-tokens", "0", "--output", "{root}/new"], ["--trial-tokens", "at least 1"]),
        (["--trial", "--trial-tokens", "40", "--output", "{root}/new"], ["documents are long", "--trial-tokens"]),
        (["--output", "{root}/corpus"], ["already exists"]),
        (["--exposures.govern-values", "p9"], ["'p9'"]),
    ],
)
def test_bad_input_is_one_line_and_no_output(root, capsys, arguments, words):
    options = [argument.format(root=root) for argument in arguments]
    assert_refused(["readiness", str(root / "run.toml"), *options], words, root, capsys)
