"""``memsinks reproduce`` at its smallest scale, as a user runs it. Its figures mean nothing at this size."""

import json
import signal
from dataclasses import asdict

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("captum")

from launching import Run, step_of, until

from memsinks.cli import main
from memsinks.experiments.reproduce import EXPERIMENTS

RUN = ("ts-repetition", "ts-canary", "post-hoc", "gradient-masking", "placement", "large-mixture")
"""One of each kind; `.ci/run` runs them all."""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce") / "out"
    for name in RUN:
        assert main(["reproduce", name, "--scale", "smoke", "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", RUN)
def test_every_experiment_writes_its_results(output, name):
    folder = output / f"{name}-smoke"
    seed = json.loads((folder / "seed-0.json").read_text())
    assert seed["experiment"] == name
    assert seed["code"]["torch"]
    assert seed["hardware"]["cores"]
    assert seed["setting"] == asdict(EXPERIMENTS[name].settings["smoke"])
    assert len((folder / "rows.csv").read_text().splitlines()) == len(seed["rows"]) + 1
    tables = (folder / "table.md").read_text()
    assert tables.startswith("**")
    assert "nan" not in tables
    figures = list(folder.glob("*.png"))
    assert figures
    assert all(file.stat().st_size > 5000 for file in figures)


def test_an_arm_is_a_run_folder_and_is_shared(output):
    seed = output / "arms" / "stories-smoke" / "seed-0"
    assert {"standard", "unseen", "sinks", "masking_mlp"} <= {p.name for p in seed.iterdir()}
    assert (seed / "standard" / "run.toml").is_file()
    assert (seed / "standard" / "model.safetensors").is_file()
    assert (seed / "standard-run" / "run.log").is_file()
    # Nothing is left to resume from once an arm is measured.
    assert not list((seed / "standard-run").glob("checkpoint-*"))


def test_finished_arms_are_not_trained_again(output, capsys):
    folder = output / "arms" / "stories-smoke" / "seed-0"
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/model.safetensors")}
    reference = output / "ts-repetition-smoke" / "summary.json"
    kept = reference.read_text()
    command = ["reproduce", "ts-repetition", "--scale", "smoke", "--output", str(output)]
    assert main([*command, "--compare", str(reference)]) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/model.safetensors")} == before
    assert reference.read_text() == kept
    out = capsys.readouterr().out
    assert "0 figures lie outside" in out
    # In a pipe a row is a line, as wide as it needs.
    assert any("Sinks, all layers, learning rate x5: placebo" in line for line in out.splitlines())


def test_seeds_are_told_apart_and_averaged(output):
    assert main(["reproduce", "ts-canary", "--scale", "smoke", "--output", str(output), "--seeds", "1"]) == 0
    summary = json.loads((output / "ts-canary-smoke" / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    assert {f["seeds"] for f in summary["figures"] if f["measure"] == "validation"} == {2}


def test_the_list_says_what_is_not_shown(capsys):
    assert main(["reproduce", "--list"]) == 0
    text = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert name in text
    assert text.count("does not show:") == len(EXPERIMENTS)


def test_an_unknown_name_is_an_error_that_lists_them(capsys):
    assert main(["reproduce", "ts-repitition"]) == 2
    assert "choose from ts-repetition" in capsys.readouterr().err


def test_a_stopped_experiment_goes_on(output, tmp_path):
    """Asked to stop inside one arm, killed inside the next, it ends with the figures of one that was not."""
    command = ["reproduce", "ts-repetition", "--scale", "smoke", "--output", str(tmp_path)]
    for arm, number, code in (("unseen", signal.SIGTERM, 1), ("unseen_steps", signal.SIGKILL, -signal.SIGKILL)):
        run = Run(command, tmp_path / "log")
        working = tmp_path / "arms" / "stories-smoke" / "seed-0" / f"{arm}-run"
        until(run, lambda working=working: step_of(working) and list(working.glob("checkpoint-*")))
        run.send(number)
        assert run.wait() == code, run.text()
        if code == 1:
            assert run.text().strip().splitlines()[-1] == f"memsinks: {arm} was stopped; the same command goes on"
    assert not (tmp_path / "ts-repetition-smoke" / "summary.json").exists()
    assert main(["reproduce", "ts-repetition", "--scale", "smoke", "--output", str(tmp_path)]) == 0
    killed, whole = (
        {
            (f["arm"], f["measure"], f["mode"], f["x"]): f["mean"]
            for f in json.loads((folder / "ts-repetition-smoke" / "summary.json").read_text())["figures"]
            if f["measure"] != "seconds"
        }
        for folder in (tmp_path, output)
    )
    assert killed == whole
