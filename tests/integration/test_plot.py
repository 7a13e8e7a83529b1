"""``memsinks plot`` as a user runs it."""

import json

import pytest

pytest.importorskip("matplotlib")

from commands import assert_refused

from memsinks.cli import main
from memsinks.cli.plot import metrics_file, run_names

HEADER = {"format": "memsinks-metrics", "format_version": 1}


def make_run(folder, loss=3.0):
    folder.mkdir(parents=True)
    entries = [
        HEADER,
        {"step": 0, "evaluation": {"repeated": {"own": 6.0, "off": 6.0}}, "time": "2026-05-01T12:00:00Z"},
        {"step": 10, "loss": loss, "grad_norm": 1.0, "learning_rate": 1e-3, "tokens_per_second": 900.0},
        {"step": 10, "exposures": {"1": 20, "2-3": 2}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    return folder


NAMES = {"losses", "throughput", "optimizer", "exposures"}


@pytest.mark.parametrize("given", ["mine-run", "mine-run/metrics.jsonl", "mine"])
def test_a_run_by_folder_by_file_and_by_its_model(tmp_path, capsys, given):
    folder = make_run(tmp_path / "mine-run")
    make_run(tmp_path / "mine")
    assert main(["plot", str(tmp_path / given)]) == 0
    assert {file.name for file in (folder / "figures").iterdir()} == {f"{name}.png" for name in NAMES}
    assert str(folder / "figures") in capsys.readouterr().out
    assert main(["plot", str(tmp_path / given)]) == 0


def test_svg_elsewhere(tmp_path):
    folder = make_run(tmp_path / "mine")
    assert main(["plot", str(folder), "--output", str(tmp_path / "drawn"), "--format", "svg"]) == 0
    assert {file.name for file in (tmp_path / "drawn").iterdir()} == {f"{name}.svg" for name in NAMES}
    assert [file.name for file in folder.iterdir()] == ["metrics.jsonl"]


def test_several_runs_of_one_name(tmp_path):
    runs = [make_run(tmp_path / "a" / "mine"), make_run(tmp_path / "b" / "mine", 4.0)]
    out = tmp_path / "both"
    assert main(["plot", *map(str, runs), "--output", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == {f"{name}.png" for name in NAMES}
    assert run_names([metrics_file(run) for run in runs]) == ["a/mine", "b/mine"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plot"], ["no run"]),
        (["plot", "{root}/nothing"], ["nothing", "metrics.jsonl"]),
        (["plot", "{root}/mine", "{root}/other"], ["--output"]),
        (["plot", "{root}/mine", "{root}/mine", "--output", "{root}/out"], ["twice"]),
        (["plot", "{root}/broken", "--output", "{root}/out"], ["broken", "line 2"]),
        (["plot", "{root}/empty", "--output", "{root}/out"], ["empty", "nothing was logged"]),
    ],
)
def test_bad_input_is_one_line_and_no_output(tmp_path, capsys, arguments, words):
    make_run(tmp_path / "mine")
    make_run(tmp_path / "other")
    broken = make_run(tmp_path / "broken") / "metrics.jsonl"
    broken.write_text(broken.read_text().replace('{"step": 0', '{"step": zero'))
    (make_run(tmp_path / "empty") / "metrics.jsonl").write_text(json.dumps(HEADER) + "\n")
    assert_refused([argument.format(root=tmp_path) for argument in arguments], words, tmp_path, capsys)
