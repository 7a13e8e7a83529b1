"""``memsinks plan`` as a user runs it."""

import json

import pytest

pytest.importorskip("matplotlib")

from commands import assert_refused, flat

from memsinks.cli import main
from memsinks.config import config_hash, read_config
from memsinks.corpus import Corpus
from memsinks.planning.overlap import fraction_lost
from memsinks.runs.config import RunConfig

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
govern_values = ["p0", "p1", "p2"]
[sinks]
pool = 60
active = 0.3
[stream]
max_length = 32
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus of four sources, and a run file that governs three of them."""
    root = tmp_path_factory.mktemp("plan")
    with (root / "rows.jsonl").open("w") as file:
        for i in range(60):
            text = f"Number {i}: " + " ".join(f"w{i * j % 13}" for j in range(14))
            file.write(json.dumps({"id": f"d{i}", "source": f"p{i % 4}", "text": text}) + "\n")
    arguments = ["--output", str(root / "corpus"), "--source-column", "source", "--vocab-size", "290"]
    assert main(["prepare", str(root / "rows.jsonl"), *arguments]) == 0
    (root / "run.toml").write_text(RUN.format(root=root))
    return root


def test_what_is_shown_is_what_is_written(root, capsys):
    assert main(["plan", str(root / "run.toml"), "--remove", "1", "10", "--output", str(root / "planned")]) == 0
    shown = flat(capsys.readouterr().out)
    assert "WARNING" in shown
    assert "cover 97.2 % of the pool: removing them takes 97.2 % of every survivor's sinks" in shown
    assert "Nothing fits; the least that would: disjoint" in shown
    assert {file.name for file in (root / "planned").iterdir()} == {"plan.json", "plan.md", "plan.png"}
    plan = json.loads((root / "planned" / "plan.json").read_text())
    config, corpus = read_config(RunConfig, root / "run.toml"), Corpus.open(root / "corpus")
    assert (plan["format"], plan["format_version"]) == ("memsinks-plan", 1)
    assert plan["config_sha256"] == config_hash(config)
    assert plan["corpus_sha256"] == corpus.hash
    assert plan["versions"]["memsinks"]
    assert plan["question"]["remove"] == [1, 10]
    assert plan["question"]["max_pool"] == 60
    assert plan["warnings"][0]["code"] == "overlap"
    governed = sum(s in ("p0", "p1", "p2") and not v for s, v in zip(corpus.sources, corpus.is_validation, strict=True))
    assert plan["text"]["governed_ids"] == governed
    # Of the others, 18 of 60 choose a given sink.
    others = 0.3 * (governed - 1)
    assert plan["pool"]["others_on_a_sink"] == pytest.approx(others)
    hashed, disjoint = plan["allocations"]
    assert hashed["of_run"]
    assert [loss["expected"] for loss in hashed["losses"]] == pytest.approx([fraction_lost(60, 18, m) for m in (1, 10)])
    assert all(
        loss["simulated"]["low"] <= loss["simulated"]["mean"] <= loss["simulated"]["high"] for loss in hashed["losses"]
    )
    assert disjoint["sinks"]["pool"] == 18 * governed == plan["recommendation"]["pool"]
    assert plan["recommendation"]["fits"] is False
    table = (root / "planned" / "plan.md").read_text()
    assert f"Nothing fits; the least that would: {plan['recommendation']['allocation']}" in table
    assert plan["warnings"][0]["message"] in table
    assert f"| other IDs that use one of an ID's sinks, expected | {others:.3g} |" in table
    assert (root / "planned" / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_plan_is_the_same_bytes(root):
    for name in ("first", "second"):
        assert main(["plan", str(root / "run.toml"), "--remove", "2", "--output", str(root / name)]) == 0
    for name in ("plan.json", "plan.md", "plan.png"):
        assert (root / "first" / name).read_bytes() == (root / "second" / name).read_bytes()


def test_options_override_the_run_file(root, capsys):
    options = ["--sinks.pool", "2000", "--sinks.active", "10", "--seed", "3", "--unit", "source", "--likely", "p1"]
    assert main(["plan", str(root / "run.toml"), *options, "--output", str(root / "other")]) == 0
    shown = flat(capsys.readouterr().out)
    assert "Recommended: disjoint" in shown
    plan = json.loads((root / "other" / "plan.json").read_text())
    assert plan["config"]["sinks"]["pool"] == 2000
    assert plan["config"]["seed"] == 3
    assert plan["question"]["terms"] == "likely"
    assert plan["pool"]["sinks"] == 2000
    assert plan["text"]["units"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--likely", "p7"], ["'p7'", "did you mean"]),
        (["--unit", "source", "--remove", "3"], ["3 governed sources", "at most 2"]),
        (["--terms", "likely"], ["--likely"]),
        (["--output", "{root}/corpus"], ["already exists"]),
        (["--corpus.path", "{root}/nothing"], ["memsinks prepare"]),
        (["--exposures.govern-values", "p9", "--remove", "1"], ["'p9'"]),
    ],
)
def test_bad_input_is_one_line_and_no_output(root, capsys, arguments, words):
    options = [argument.format(root=root) for argument in arguments]
    assert_refused(["plan", str(root / "run.toml"), *options], words, root, capsys)
