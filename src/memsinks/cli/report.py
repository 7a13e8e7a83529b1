"""``memsinks report``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from memsinks.errors import InputError


@dataclass(frozen=True)
class Report:
    """Write the page and the tables of an audit again, from its audit.json."""

    audit: tyro.conf.Positional[Path]
    """What `memsinks audit` wrote: its folder, or the audit.json in it."""
    output: Path | None = None
    """Folder for report.html, figures.csv and documents.csv; default beside audit.json."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.auditing.document import read_audit

        content = read_audit(self.audit)
        beside = self.audit if self.audit.is_dir() else self.audit.parent
        output = beside if self.output is None else self.output
        names = ", ".join(file.name for file in written(content, output))
        Console(highlight=False, soft_wrap=True).print(f"{output}: {names}", markup=False)


def written(content: dict[str, Any], output: Path) -> list[Path]:
    """Write the page and the tables of an audit.

    Args:
        content: of ``audit.json``.
        output: folder.

    Raises:
        InputError: the content is no whole audit, or the folder cannot be written.
        MemsinksError: the ``report`` extra is not installed; nothing is written.
    """
    from memsinks.report.audit import REPORT, parse, write_report, write_spreadsheets

    audit = parse(content)
    with writing(output):
        write_report(audit, output / REPORT)
        return [output / REPORT, *write_spreadsheets(audit, output)]


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Inside the block, what the system refuses is told as the user's error."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: cannot be written ({error.strerror or error}); choose another --output") from error
