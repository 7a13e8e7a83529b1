"""The table of arms for a terminal and for Markdown."""

from typing import Any

from rich.table import Table
from rich.text import Text

from memsinks.report.rows import COLUMNS, arm_rows
from memsinks.report.schema import validate

TERMINAL = ("Model", "Loss, repeated", "Loss, validation", "Extracted", "Steps")
"""Columns that fit 100 characters; intervals go to the page and to Markdown."""


def arms_table(results: dict[str, Any]) -> Table:
    """The arms as a :class:`rich.table.Table`, figures only.

    Raises:
        InputError: ``results`` does not follow :class:`memsinks.report.schema.Results`.
    """
    table = Table(caption="Loss in nats per token; extracted: stories reproduced exactly from their beginning.")
    for column in TERMINAL:
        table.add_column(column, justify="left" if column == "Model" else "right")
    chosen = [COLUMNS.index(column) - 1 for column in TERMINAL[1:]]
    for row in arm_rows(validate(results)):
        table.add_row(Text(row.name), *(Text(row.cells[i].value) for i in chosen))
    return table


def markdown_table(results: dict[str, Any]) -> str:
    """The arms as a Markdown table with 95 % intervals.

    Raises:
        InputError: ``results`` does not follow :class:`memsinks.report.schema.Results`.
    """
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    for row in arm_rows(validate(results)):
        cells = [f"{cell.value} {cell.interval}".strip() for cell in row.cells]
        lines.append("| " + " | ".join([row.name, *cells]) + " |")
    return "\n".join(lines) + "\n"
