"""``memsinks audit``."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from tyro.constructors import PrimitiveConstructorSpec

from memsinks.auditing.config import AuditConfig
from memsinks.auditing.document import AUDIT
from memsinks.cli.report import writing, written
from memsinks.cli.watching import LOG, Watching
from memsinks.corpus.storage import Place
from memsinks.errors import InputError, MemsinksError

if TYPE_CHECKING:
    from memsinks.auditing.audit import Audit
    from memsinks.removal.target import Target

_UNITS = {"s": 1, "m": 60, "h": 3600}


def _seconds(arguments: list[str]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", arguments[0])
    if match is None or not float(match[1]):
        raise ValueError(f"{arguments[0]!r} is no time such as 90s, 5m or 2h")
    return float(match[1]) * _UNITS[match[2]]


Duration = Annotated[
    float,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="TIME",
        instance_from_str=_seconds,
        is_instance=lambda value: isinstance(value, float),
        str_from_instance=lambda value: [f"{value:g}s"],
    ),
]
"""Seconds, given as 90s, 5m or 2h."""


@dataclass(frozen=True, kw_only=True)
class AuditCommand(AuditConfig):
    """Attack a trained model as somebody would who wants its text back, with controls, and report what was found.

    Stopped at any time, the same command goes on. An estimate of the time comes first.
    """

    run_folder: tyro.conf.Positional[Path]
    """A folder that `memsinks train` wrote, with sinks or without."""
    output: Path
    """Where to put audit.json, report.html and tables; a new folder, or that of a stopped audit."""
    corpus: Place | None = None
    """The corpus it was trained on, a folder or a URL; default the one that its run file names."""
    against: tuple[str, ...] = ()
    """Other models to measure beside it, NAME=FOLDER: standard (trained without sinks), reference (never trained on the
    text), removed (the run after a removal) or own (before one), or any other name."""
    sources: tuple[str, ...] = ()
    """Sources to audit; default what was removed from the run, or else what it saw more than once."""
    groups: tuple[str, ...] = ()
    """Documents whose groups of near-copies to audit."""
    documents: tuple[str, ...] = ()
    """Names of documents to audit."""
    ids: tuple[str, ...] = ()
    """Sequence IDs to audit, 16 hexadecimal digits each."""
    where: tuple[str, ...] = ()
    """Conditions on columns, all of which have to hold: 'contract=C-7' 'date<2025-01-01'."""
    sections: tuple[str, ...] = ()
    """Families of measurements to run; default all."""
    budget: Duration | None = None
    """Most time to spend, such as 90s, 5m or 2h: what would take longer is left out, and the report says so."""
    calibrate: int = 0
    """Also audit so many sets of text that was never trained, to see how often an innocent model is accused."""
    estimate: bool = False
    """Say what the audit would take, and end."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.auditing.audit import plan_audit, run_audit
        from memsinks.auditing.calibration import calibrate, check_calibration, expected_seconds
        from memsinks.auditing.subject import audited

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        config = AuditConfig(**{f.name: getattr(self, f.name) for f in fields(AuditConfig)})
        against = _pairs(self.against)
        subject = audited(self.run_folder, config.text, target=self._target(), corpus=self.corpus, against=against)
        if self.calibrate:
            check_calibration(subject.texts, self.calibrate)
        audit = plan_audit(subject, config, self.output, sections=self.sections)
        calibration = expected_seconds(audit, self.output, self.calibrate, sections=self.sections)
        console.print(_estimate(audit, calibration))
        if self.estimate:
            return
        with Watching(audit.seconds + calibration, self.output / LOG, console) as watch:
            content = run_audit(audit, self.output, budget=self.budget, watch=watch)
            if self.calibrate:
                _show_calibration(calibrate(audit, self.output, self.calibrate, sections=self.sections, watch=watch))
        self._show(content, self._report(content, console))

    def _report(self, content: dict[str, Any], console: Console) -> list[Path]:
        """Write the page and the tables, or the tables alone: what was measured is kept in audit.json all the same."""
        from memsinks.report.audit import parse, write_spreadsheets

        try:
            return written(content, self.output)
        except MemsinksError as error:
            console.print(f"no report was written: {error}, then `memsinks report {self.output}`", markup=False)
            with writing(self.output):
                return list(write_spreadsheets(parse(content), self.output))

    def _target(self) -> "Target | None":
        from memsinks.removal.target import Target

        named = {name: getattr(self, name) for name in ("sources", "groups", "documents", "ids", "where")}
        return Target(**named) if any(named.values()) else None

    def _show(self, content: dict[str, Any], files: list[Path]) -> None:
        console = Console(highlight=False, soft_wrap=True)
        for verdict in content["verdicts"]:
            console.print(f"{verdict['question']} [bold]{verdict['answer']}[/bold]")
            console.print(f"  {verdict['says']}", markup=False)
        console.print(f"{self.output}: {', '.join([AUDIT, *(file.name for file in files)])}", markup=False)


def _pairs(texts: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, folder = text.partition("=")
        if not sign or not name or not folder:
            raise InputError(f"--against {text!r}: expected NAME=FOLDER, such as reference=runs/retrained")
        if name in found:
            raise InputError(f"--against {text!r}: {name} was given before; give each model a name of its own")
        found[name] = Path(folder)
    return found


def _estimate(audit: "Audit", calibration: float) -> Table:
    table = Table("section", "measurements", "time, about", title=f"{audit.audited.asked}")
    for section in dict.fromkeys(task.section for task in audit.tasks):
        own = [task for task in audit.tasks if task.section == section]
        table.add_row(section, str(len(own)), _shown(sum(audit.speed.seconds(task.cost) for task in own)))
    table.add_row("all", str(len(audit.tasks)), _shown(audit.seconds))
    if calibration:
        table.add_row("calibration", "", _shown(calibration))
    return table


def _show_calibration(content: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Of {content['sets']} sets of text that was never trained, accused:")
    for question in content["questions"]:
        console.print(f"  {question['yes']} ({question['question']})", markup=False)


def _shown(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
