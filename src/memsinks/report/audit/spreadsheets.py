"""``figures.csv`` and ``documents.csv``: numbers of an audit for other programs, in UTF-8 and in full precision."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from memsinks.report.audit.content import AuditContent
from memsinks.report.html import write_whole

FIGURES, DOCUMENTS = "figures.csv", "documents.csv"
FIGURE_COLUMNS = (
    "section", "measure", "condition", "texts", "value", "low", "high", "number", "unit", "chance", "question", "note",
)  # fmt: skip
DOCUMENT_COLUMNS = ("section", "measure", "condition", "texts", "document", "value")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_spreadsheets(audit: AuditContent, folder: Path) -> tuple[Path, Path]:
    """Write the two files into a folder; files that are there are replaced.

    A cell of text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    figures, documents = folder / FIGURES, folder / DOCUMENTS
    write_whole(figures, _csv(FIGURE_COLUMNS, audit.figures))
    write_whole(documents, _csv(DOCUMENT_COLUMNS, audit.documents))
    return figures, documents


def _csv(columns: Sequence[str], rows: Iterable[Any]) -> str:
    text = io.StringIO()
    # Ends of lines as in RFC 4180: with others, the writer leaves a carriage return within a cell unquoted.
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(getattr(row, column)) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
