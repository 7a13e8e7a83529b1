"""A readiness report: on a terminal, as ``readiness.md`` on one page, and as ``readiness.json`` with every number."""

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from memsinks.config import config_hash
from memsinks.corpus.files import new_directory
from memsinks.readiness.answer import VERDICTS, Answer, Verdict
from memsinks.readiness.trial import TrialOutcome
from memsinks.runs.config import RunConfig

FORMAT, FORMAT_VERSION = "memsinks-readiness", 1
JSON, MARKDOWN = "readiness.json", "readiness.md"
STYLES: dict[Verdict, str] = {
    "ready": "green",
    "attention": "yellow",
    "not ready": "bold red",
    "not measured": "dim",
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """All answers about a run.

    Attributes:
        config: of the run.
        corpus: SHA-256 of the corpus's manifest.
        answers: to the questions, in their order.
        trial: small paired runs, if they were asked for.
    """

    config: RunConfig
    corpus: str
    answers: tuple[Answer, ...]
    trial: TrialOutcome | None

    @property
    def headline(self) -> str:
        """How many answers of each verdict there are."""
        counts = {verdict: sum(a.verdict == verdict for a in self.answers) for verdict in VERDICTS}
        return ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)


def write_report(report: Report, output: Path) -> None:
    """Write both files; the folder appears whole or not at all.

    Raises:
        InputError: the folder is not empty or cannot be written.
    """
    with new_directory(output) as folder:
        content = json.dumps(as_dict(report), indent=2, ensure_ascii=False, default=str, allow_nan=False)
        (folder / JSON).write_text(content + "\n", encoding="utf-8")
        (folder / MARKDOWN).write_text(markdown(report), encoding="utf-8")


def as_dict(report: Report) -> dict[str, Any]:
    """Every number, for JSON. Fractions are in [0, 1], losses in nats per token."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("memsinks", "torch", "transformers")},
        },
        "config": asdict(report.config),
        "config_sha256": config_hash(report.config),
        "corpus_sha256": report.corpus,
        "answers": [asdict(found) for found in report.answers],
        "trial": None
        if report.trial is None
        else {"facts": report.trial.facts, "rows": [asdict(row) for row in report.trial.rows]},
    }


def render(report: Report) -> RenderableType:
    """For a terminal: a panel for each question."""
    return Group(Text(f"Readiness: {report.headline}", style="bold"), *map(_panel, report.answers))


def markdown(report: Report) -> str:
    """One page: the answers in a table, then each with its figures."""
    lines = ["# Readiness", "", f"{report.headline[0].upper()}{report.headline[1:]}.", ""]
    lines += _table(("question", "verdict"), [(a.question, f"**{a.verdict}**") for a in report.answers])
    for found in report.answers:
        lines += ["", f"## {found.question}", "", f"**{found.verdict.capitalize()}.** {found.says}", ""]
        lines += [f"- {remedy}" for remedy in found.remedies] + [""] * bool(found.remedies)
        if found.evidence:
            lines += [*_table(("measured", ""), [(e.what, e.shown) for e in found.evidence]), ""]
        lines.append(f"Not covered: {found.not_covered}")
    lines += ["", f"Corpus `{report.corpus[:16]}`, run file `{config_hash(report.config)[:16]}`."]
    return "\n".join(lines) + "\n"


def _panel(found: Answer) -> Panel:
    style = STYLES[found.verdict]
    parts: list[RenderableType] = [Text(found.question, style="bold"), Text(found.says)]
    parts += [Text(f"• {remedy}") for remedy in found.remedies]
    if found.evidence:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for evidence in found.evidence:
            table.add_row(Text(evidence.what, style="dim"), Text(evidence.shown))
        parts += [Text(""), table]
    parts += [Text(""), Text(f"Not covered: {found.not_covered}", style="dim")]
    title = Text(found.verdict.upper(), style=style)
    return Panel(Group(*parts), title=title, title_align="left", border_style=style)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [header, ("---",) * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
