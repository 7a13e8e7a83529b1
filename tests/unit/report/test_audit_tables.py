import csv
import io
import json
import math

import pytest
from audits import rich_audit
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit.findings import DocumentValue, Figure
from memsinks.report.audit import parse, write_spreadsheets
from memsinks.report.audit.shown import between, day, figure, without_paths
from memsinks.report.audit.spreadsheets import _csv
from memsinks.report.audit.tables import MOST_ROWS, document_tables, tables


def a_figure(**rest):
    usual = {"section": "s", "measure": "m", "condition": "own", "texts": "target", "value": 0.5, "unit": "rate"}
    return Figure(**{**usual, **rest})


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.125, "rate", "12.5\N{NO-BREAK SPACE}%"),
        (1.0, "rate", "100\N{NO-BREAK SPACE}%"),
        (0.5, "AUC", "0.500"),
        (-0.01, "nats per token", "−0.010"),
        (50.0, "tokens", "50"),
        (2.5, "steps", "2.5"),
        (12345.6, "perplexity", "12,346"),
        (None, "AUC", "–"),
        (math.nan, "AUC", "–"),
        (math.inf, "perplexity", "∞"),
    ],
)
def test_values_as_they_are_written(value, unit, text):
    assert figure(value, unit) == text


def test_an_interval_needs_both_ends():
    assert between(0.25, 0.75, "AUC") == "[0.250, 0.750]"
    assert between(None, 0.75, "AUC") == between(0.25, None, "AUC") == ""


def test_days():
    assert day("2026-03-01T09:00:00+00:00") == "1 March 2026"
    assert day("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/a/runs/x: no model is there", "x: no model is there"),
        ('["/data/shadow-0", "/data/shadow-1/"]', '["shadow-0", "shadow-1"]'),
        ("C:\\models\\base is missing", "base is missing"),
        ("~/runs/x and ./y", "x and ./y"),
        ("../../home/a/x", "x"),
        ("file:///home/a/x", "x"),
        ("model:/home/a/x", "model:x"),
        ("`/home/a/x` and “/home/a/y”, </home/a/z>", "`x` and “y”, <z>"),
        ("https://host:80/a/b and s3://bucket/key", "https://host:80/a/b and s3://bucket/key"),
        ("nats/token, 3 / 4, and/or, 1/2", "nats/token, 3 / 4, and/or, 1/2"),
    ],
)
def test_folders_of_the_machine_are_left_out(text, told):
    assert without_paths(text) == told


def test_a_table_for_each_unit_with_conditions_across_in_their_order():
    figures = [
        a_figure(condition="off", value=0.0, number=12),
        a_figure(value=1.0, number=12, chance=0.1, note="of few"),
        a_figure(texts="unseen", value=0.25, number=229, question=""),
        a_figure(measure="run", unit="tokens", value=7.0),
    ]
    rates, runs = tables(figures, ["own", "off", "removed"])
    assert (rates.unit, rates.conditions) == ("rate", ("own", "off"))
    assert [(row.measure, row.texts) for row in rates.rows] == [("m", "target"), ("m", "unseen")]
    assert [cell.value for cell in rates.rows[0].cells] == ["100\N{NO-BREAK SPACE}%", "0\N{NO-BREAK SPACE}%"]
    assert rates.rows[0].notes == ("own: of few",)
    assert rates.rows[0].number == "12"
    assert rates.with_chance
    assert [cell.value for cell in rates.rows[1].cells] == ["25\N{NO-BREAK SPACE}%", "–"]
    assert [cell.sort for cell in rates.rows[1].cells] == ["0.25", ""]
    assert (runs.unit, runs.conditions, runs.with_chance) == ("tokens", ("own",), False)


@pytest.mark.parametrize(
    ("value", "key"), [(None, ""), (math.nan, ""), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (-1e-9, "-1e-09")]
)
def test_columns_are_sorted_by_what_javascript_reads_as_a_number(value, key):
    (table,) = tables([a_figure(value=value, unit="perplexity")], ["own"])
    assert table.rows[0].cells[0].sort == key


def test_no_figure_is_shown_in_place_of_another():
    (table,) = tables([a_figure(value=0.25), a_figure(value=0.75)], ["own"])
    assert [row.cells[0].sort for row in table.rows] == ["0.25", "0.75"]


def test_the_median_of_unseen_documents_is_the_middle_one():
    def value(texts, document, number):
        return DocumentValue(section="s", measure="m", condition="own", texts=texts, document=document, value=number)

    unseen = [value("unseen", f"u{i}", float(v)) for i, v in enumerate((9, 1, 4, 2))]
    (table,) = document_tables([value("target", "t", 3.0), *unseen], ["own"])
    assert [document for _, document, _ in table.rows] == ["t"]
    assert (table.unseen[0], table.unseen[1][0].value, table.unseen[1][0].interval) == (4, "3.000", "1.000 to 9.000")
    many = [value("target", f"t{i}", 1.0) for i in range(MOST_ROWS + 7)]
    (table,) = document_tables(many, ["own"])
    assert (len(table.rows), table.left_out, table.unseen[1][0].value) == (MOST_ROWS, 7, "–")


def test_spreadsheets_hold_every_number_in_full(tmp_path):
    rich = rich_audit()
    for file, key in zip(write_spreadsheets(parse(rich), tmp_path), ("figures", "documents"), strict=True):
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        assert len(rows) == len(rich[key])
        for row, one in zip(rows, rich[key], strict=True):
            assert set(row) == set(one)
            for name, value in one.items():
                kind = type(value) if isinstance(value, int | float) else str
                assert kind(row[name] or 0) == (value or kind(0)) or row[name] == (value or "")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["documents.csv", "figures.csv"]


@given(st.text(alphabet="=+-@\t\r\n'\",a", max_size=6))
def test_no_cell_of_text_is_a_formula(text):
    content = _csv(("measure", "note"), [a_figure(note=text)])
    _, (measure, note) = csv.reader(io.StringIO(content, newline=""))
    assert measure == "m"
    assert note in (text, f"'{text}")
    assert not note.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_negative_number_stays_a_number(tmp_path):
    rich = json.loads(json.dumps(rich_audit()))
    rich["figures"] = [{**rich["figures"][0], "value": -0.25, "measure": "=1+1"}]
    figures, _ = write_spreadsheets(parse(rich), tmp_path)
    row = figures.read_text("utf-8").splitlines()[1]
    assert row.startswith("losses,'=1+1,own,target,-0.25,")
