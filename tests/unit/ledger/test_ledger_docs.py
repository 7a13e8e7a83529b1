"""The lines of the documentation, as somebody without this library would run them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_behaviour import filled

DOCS = Path(__file__).parents[3] / "docs" / "ledger.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(code, folder):
    return subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True)


def test_the_first_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(blocks()[0], {})
    assert (tmp_path / "ledger.sqlite").exists()


@pytest.fixture
def exported(tmp_path):
    ledger, _ = filled(str(tmp_path / "ledger.sqlite"))
    ledger.export(tmp_path / "ledger.jsonl", names=True)
    return tmp_path / "ledger.jsonl"


def test_ten_lines_verify_an_export(exported):
    code = blocks()[1]
    assert "memsinks" not in code
    done = run(code, exported.parent)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", ["field", "missing", "tail"])
def test_the_lines_find_a_change(exported, change):
    lines = exported.read_text().splitlines(keepends=True)
    match change:
        case "field":
            lines[2] = lines[2].replace("approved", "applied", 1)
        case "missing":
            del lines[2]
        case "tail":
            del lines[-1]
    exported.write_text("".join(lines))
    done = run(blocks()[1], exported.parent)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
