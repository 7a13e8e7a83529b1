"""Two audits beside each other, as one page of the look of a report."""

from pathlib import Path

from memsinks.report import format as fmt
from memsinks.report.audit.comparison import Comparison
from memsinks.report.audit.shown import between, day, figure, sort_key
from memsinks.report.audit.words import section_words
from memsinks.report.html import environment, write_whole


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison.

    Args:
        comparison: of two audits.
        path: the HTML file; its folder is made, and a file that is there is replaced once the new one is whole.

    Raises:
        MemsinksError: the ``report`` extra is not installed; nothing is written.
    """
    write_whole(path, render_comparison(comparison))


def render_comparison(comparison: Comparison) -> str:
    """The page's HTML."""
    sections = list(dict.fromkeys(pair.section for pair in comparison.pairs))
    return (
        environment()
        .get_template("comparison.html")
        .render(
            found=comparison,
            sections=[
                (section_words(name).title, [pair for pair in comparison.pairs if pair.section == name])
                for name in sections
            ],
            apart=sum(pair.intervals == "apart" for pair in comparison.pairs),
            changed=[answer for answer in comparison.answers if answer.changed],
            shown=figure,
            between=between,
            signed=signed,
            sort_key=sort_key,
            day=day,
            fmt=fmt,
        )
    )


def signed(value: float | None, unit: str) -> str:
    """A difference with its sign; of rates in percentage points."""
    if value is None:
        return fmt.MISSING
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    if unit == "rate":
        return f"{sign}{abs(100 * value):.1f} points"
    return f"{sign}{figure(abs(value), unit)}"
