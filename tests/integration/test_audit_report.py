"""``memsinks report`` and ``memsinks compare``."""

import builtins
import io
import json

import pytest
from audits import rich_audit
from commands import assert_refused, flat
from rich.console import Console

from memsinks.cli import main
from memsinks.cli.audit import AuditCommand


@pytest.fixture
def audits(tmp_path):
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.json").write_text(json.dumps(rich_audit(name=name)), "utf-8")
    return tmp_path


def change(folder, edit):
    file = folder / "audit.json"
    content = json.loads(file.read_text("utf-8"))
    edit(content)
    file.write_text(json.dumps(content), "utf-8")


def test_an_audit_is_rendered_again(audits, capsys):
    before = audits / "before"
    assert main(["report", str(before)]) == 0
    assert sorted(p.name for p in before.iterdir()) == ["audit.json", "documents.csv", "figures.csv", "report.html"]
    assert "report.html, figures.csv, documents.csv" in flat(capsys.readouterr().out)
    assert main(["report", str(before / "audit.json"), "--output", str(audits / "new" / "place")]) == 0
    for name in ("documents.csv", "figures.csv", "report.html"):
        assert (audits / "new" / "place" / name).read_bytes() == (before / name).read_bytes()


def test_bad_audits_are_refused_before_anything_is_written(audits, capsys):
    (audits / "before" / "audit.json").write_text("{}", "utf-8")
    assert_refused(["report", str(audits / "before")], ["is not an audit"], audits, capsys)
    change(audits / "after", lambda audit: audit["target"].pop("documents"))
    assert_refused(["report", str(audits / "after")], ["target.documents"], audits, capsys)
    assert_refused(["report", str(audits / "none")], ["cannot be read as an audit"], audits, capsys)


@pytest.fixture
def without_jinja(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "jinja2":
            raise ImportError(f"no {name}", name="jinja2")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_the_extra_a_report_is_refused(audits, capsys, without_jinja):
    assert_refused(["report", str(audits / "before")], ["jinja2", "memsinks[report]"], audits, capsys)


def test_without_the_extra_an_audit_keeps_its_json_and_writes_its_tables(audits, without_jinja):
    before, said = audits / "before", io.StringIO()
    command = AuditCommand(run_folder=audits / "run", output=before)
    written = command._report(rich_audit(), Console(file=said, soft_wrap=True))
    assert [file.name for file in written] == ["figures.csv", "documents.csv"]
    assert sorted(p.name for p in before.iterdir()) == ["audit.json", "documents.csv", "figures.csv"]
    assert "memsinks[report]" in said.getvalue()
    assert f"memsinks report {before}" in said.getvalue()


def test_a_place_that_cannot_be_written_is_told(audits, capsys):
    file = audits / "file"
    file.write_text("")
    words = ["cannot be written", "--output"]
    assert_refused(["report", str(audits / "before"), "--output", str(file)], words, audits, capsys)
    both = [str(audits / "before"), str(audits / "after")]
    assert_refused(["compare", *both, "--output", str(file / "page.html")], words, audits, capsys)


def test_two_audits_beside_each_other(audits, capsys):
    def leak(audit):
        audit["verdicts"][1]["answer"] = "yes"
        for one in audit["figures"]:
            if (one["measure"], one["condition"], one["texts"]) == ("greedy, 50 tokens given", "removed", "target"):
                one["value"], one["low"], one["high"] = 0.5, 0.3, 0.7

    change(audits / "after", leak)
    both = [str(audits / "before"), str(audits / "after")]
    assert main(["compare", *both, "--output", str(audits / "page.html")]) == 0
    said = flat(capsys.readouterr().out)
    assert "the intervals of 1 are apart" in said
    assert "+50.0 points" in said
    assert "greedy, 50 tokens given" in (audits / "page.html").read_text("utf-8")
    assert main(["compare", *both, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [a["key"] for a in content["answers"] if a["a"] != a["b"]] == ["extractable"]
    assert content["pairs"][0]["intervals"] == "apart"


def test_a_name_in_brackets_is_no_markup(audits, capsys):
    change(audits / "after", lambda audit: audit["run"].update(name="run[/bold]"))
    assert main(["compare", str(audits / "before"), str(audits / "after")]) == 0
    assert "b: run[/bold]" in flat(capsys.readouterr().out)


def test_audits_of_different_text_are_refused(audits, capsys):
    change(audits / "after", lambda audit: audit["target"].update(sha256="other"))
    both = [str(audits / "before"), str(audits / "after")]
    assert_refused(["compare", *both], ["different text", "--different-text"], audits, capsys)
    assert main(["compare", *both, "--different-text"]) == 0
    assert "different text" in capsys.readouterr().out
