"""``report.html``: an audit as one page, everything inside the file, nothing loaded from anywhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count as counting
from pathlib import Path
from typing import Any

from memsinks.audit.findings import Example
from memsinks.report import format as fmt
from memsinks.report.audit.charts import Chart
from memsinks.report.audit.content import AuditContent
from memsinks.report.audit.dots import dot_charts
from memsinks.report.audit.lines import curve_charts
from memsinks.report.audit.shown import without_paths
from memsinks.report.audit.summary import summary
from memsinks.report.audit.tables import DocumentTable, Table, document_tables, tables
from memsinks.report.audit.words import ATTACKERS, GLOSSARY, SectionWords, section_words
from memsinks.report.html import environment, packed_plotly_js, settings, write_whole

REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A family of measurements as it is shown.

    Attributes:
        name: of it.
        words: what it is.
        plots: HTML id and plot.
        tables: of figures.
        documents: of single documents.
        examples: those of one document and measure together.
    """

    name: str
    words: SectionWords
    plots: tuple[tuple[str, Chart], ...]
    tables: tuple[Table, ...]
    documents: tuple[DocumentTable, ...]
    examples: tuple[tuple[Example, ...], ...]


def write_report(audit: AuditContent, path: Path) -> None:
    """Write the page of an audit.

    Args:
        audit: what was found.
        path: the HTML file; its folder is made, and a file that is there is replaced once the new one is whole.

    Raises:
        MemsinksError: the ``report`` extra is not installed; nothing is written.
    """
    write_whole(path, render_report(audit))


def render_report(audit: AuditContent) -> str:
    """The page's HTML."""
    sections = _sections(audit)
    plots = {key: chart.figure for section in sections for key, chart in section.plots}
    return (
        environment()
        .get_template("audit.html")
        .render(
            audit=audit,
            summary=summary(audit),
            sections=sections,
            sources=", ".join(name or "no named source" for name in audit.target.sources),
            attackers=_attackers(sections),
            glossary=GLOSSARY,
            left_out=[(item.task, without_paths(item.why)) for item in audit.left_out],
            config=[(name, without_paths(value)) for name, value in settings(audit.config)],
            versions=settings(audit.versions),
            figures=plots,
            packed_plotly=packed_plotly_js() if plots else "",
            fmt=fmt,
        )
    )


def _sections(audit: AuditContent) -> list[Section]:
    order, numbers = audit.order, counting(1)
    found = []
    for name in audit.sections:
        figures = [f for f in audit.figures if f.section == name]
        charts = [
            *dot_charts(figures, order),
            *curve_charts([c for c in audit.curves if c.section == name], order),
        ]
        found.append(
            Section(
                name=name,
                words=section_words(name),
                plots=tuple((f"plot-{next(numbers)}", chart) for chart in charts),
                tables=tuple(tables(figures, order)),
                documents=tuple(document_tables([d for d in audit.documents if d.section == name], order)),
                examples=_together([e for e in audit.examples if e.section == name]),
            )
        )
    return found


def _together(examples: Iterable[Example]) -> tuple[tuple[Example, ...], ...]:
    """Examples of one measure, document and prompt, which differ in the condition."""
    found: dict[Any, list[Example]] = {}
    for example in examples:
        found.setdefault((example.measure, example.document, example.given), []).append(example)
    return tuple(map(tuple, found.values()))


def _attackers(sections: Sequence[Section]) -> list[tuple[str, str, str]]:
    """What each holds, can do, and which sections of this audit measure it."""
    titles = {section.name: section.words.title for section in sections}
    nothing = "not measured: there is nothing to find out"
    return [
        (
            holds,
            can,
            ", ".join(titles[name] for name in names if name in titles)
            or ("not measured in this audit" if names else nothing),
        )
        for holds, can, names in ATTACKERS
    ]
