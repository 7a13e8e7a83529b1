import io

import pytest
from rich.console import Console

from memsinks.errors import InputError
from memsinks.report import arms_table, markdown_table
from memsinks.report.format import duration, number, percent, signed


def test_terminal(results):
    out = io.StringIO()
    Console(file=out, width=120).print(arms_table(results))
    text = out.getvalue()
    for figure in ("0.287", "3.617", "3.802", "4.003", "3.494", "3.688", "0.153", "3.412", "4.871", "3.783", "5.407"):
        assert figure in text
    assert "95\N{NO-BREAK SPACE}%" in text


def test_markdown(results):
    lines = markdown_table(results).splitlines()
    assert len(lines) == 2 + 6
    assert {line.count("|") for line in lines} == {8}
    assert lines[2].startswith("| Standard (with repetition) | 0.287 [0.236, 0.339] | 3.617 [3.554, 3.681] | 90")
    assert "5,210,001 + 2,359,296 in sinks" in lines[5]


@pytest.mark.parametrize("write", [arms_table, markdown_table])
def test_refuses_incomplete_results(results, write):
    del results["arms"]["sinks"]
    with pytest.raises(InputError, match=r"arms\.sinks is missing"):
        write(results)


def test_figures():
    assert number(-1.23456) == "−1.235"
    assert number(float("nan")) == number(None) == "not defined"
    assert [percent(x).replace("\N{NO-BREAK SPACE}", " ") for x in (0.0, 1.0, 0.161, 0.95, 0.001)] == [
        "0 %",
        "100 %",
        "16.1 %",
        "95 %",
        "0.1 %",
    ]
    assert signed(0.5) == "+0.500"
    assert (duration(59.2), duration(61)) == ("59 s", "1 min 01 s")
