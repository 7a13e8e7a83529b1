"""``memsinks compare``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memsinks.cli.report import writing

if TYPE_CHECKING:
    from memsinks.report.audit import Comparison

_SHOWN = 20


@dataclass(frozen=True)
class Compare:
    """Compare two audits of the same text: answers that changed, and figures that both have."""

    a: tyro.conf.Positional[Path]
    """An audit, for example of the run before a removal: its folder, or the audit.json in it."""
    b: tyro.conf.Positional[Path]
    """Another, for example after it."""
    output: Path | None = None
    """An HTML page to write."""
    json: bool = False
    """Print JSON in place of tables, with every figure."""
    different_text: bool = False
    """Compare audits of different text too; their figures differ for that alone."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.auditing.document import read_audit
        from memsinks.report.audit import compare, parse, write_comparison

        one, other = (parse(read_audit(file)) for file in (self.a, self.b))
        found = compare(one, other, different_text=self.different_text)
        if self.output is not None:
            with writing(self.output):
                write_comparison(found, self.output)
        console = Console(highlight=False, soft_wrap=True)
        if self.json:
            console.print_json(json.dumps(found.to_json()))
            return
        _show(console, found)
        if self.output is not None:
            console.print(f"{self.output}: written", markup=False)


def _show(console: Console, found: "Comparison") -> None:
    from memsinks.report.audit.comparison_page import signed
    from memsinks.report.audit.shown import figure

    if not found.same_text:
        console.print("The audits are of different text; their figures differ for that alone.")
    answers = Table("question", "a", "b", title=Text(f"a: {found.a.run}, b: {found.b.run}"))
    for answer in found.answers:
        style = "bold" if answer.changed else ""
        answers.add_row(*(Text(words or "–", style=style) for words in (answer.question, answer.a, answer.b)))
    console.print(answers)
    apart = [pair for pair in found.pairs if pair.intervals == "apart"]
    console.print(f"{len(found.pairs):,} figures in both; the intervals of {len(apart):,} are apart")
    if apart:
        figures = Table("measure", "condition", "texts", "a", "b", "difference", "unit")
        for pair in apart[:_SHOWN]:
            values = (figure(pair.a, pair.unit), figure(pair.b, pair.unit), signed(pair.difference, pair.unit))
            words = (f"{pair.section}: {pair.measure}", pair.condition, pair.texts, *values, pair.unit)
            figures.add_row(*map(Text, words))
        console.print(figures)
    if len(apart) > _SHOWN:
        console.print(f"  … and {len(apart) - _SHOWN:,} more; --json and --output have all")
    console.print(f"only in a: {len(found.only_a):,} figures; only in b: {len(found.only_b):,}")
