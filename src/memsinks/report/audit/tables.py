"""Figures as tables: measures and texts down, conditions across, one table for each section and unit."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memsinks.audit.findings import DocumentValue, Figure
from memsinks.report.audit.shown import between, figure, sort_key
from memsinks.report.format import MISSING, count

MOST_ROWS = 100
"""Documents shown in one table; all are in documents.csv."""
UNSEEN = "unseen"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value as it is written, with its interval, and the number that it is sorted by."""

    value: str
    interval: str = ""
    sort: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A measure of a set of texts under all conditions."""

    measure: str
    texts: str
    cells: tuple[Cell, ...]
    number: str
    chance: str
    notes: tuple[str, ...]
    decides: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """A section's figures of one unit.

    Attributes:
        unit: of all values.
        conditions: that have values, in order.
        rows: in the order in which they were measured.
    """

    unit: str
    conditions: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def with_chance(self) -> bool:
        """Whether a chance level is known for any row."""
        return any(row.chance for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class DocumentTable:
    """Values of one measure: documents down, conditions across.

    Attributes:
        section, measure: of the values.
        conditions: that have values, in order.
        rows: texts, document and a cell for each condition.
        left_out: documents that are not shown.
        unseen: how many documents of unseen text there are, and the median and range of their values under each
            condition; empty cells where there are none.
    """

    section: str
    measure: str
    conditions: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]
    left_out: int
    unseen: tuple[int, tuple[Cell, ...]]


def tables(figures: Iterable[Figure], order: Sequence[str]) -> list[Table]:
    """Tables of one section's figures.

    Args:
        figures: of the section.
        order: names of conditions.
    """
    units: dict[str, list[Figure]] = defaultdict(list)
    for found in figures:
        units[found.unit].append(found)
    return [_table(unit, members, order) for unit, members in units.items()]


def _table(unit: str, figures: Sequence[Figure], order: Sequence[str]) -> Table:
    conditions = tuple(name for name in order if any(f.condition == name for f in figures))
    measures = list(dict.fromkeys(f.measure for f in figures))
    # A figure that is there twice gets a second row: nothing is shown in place of another.
    rows: dict[tuple[str, str, int], dict[str, Figure]] = defaultdict(dict)
    for found in figures:
        again = 0
        while found.condition in rows[found.measure, found.texts, again]:
            again += 1
        rows[found.measure, found.texts, again][found.condition] = found
    ranked = sorted(rows.items(), key=lambda item: (measures.index(item[0][0]), _rank(item[0][1])))
    return Table(
        unit=unit,
        conditions=conditions,
        rows=tuple(_row(measure, texts, found, conditions) for (measure, texts, _), found in ranked),
    )


def _rank(texts: str) -> int:
    return {"target": 0, UNSEEN: 1}.get(texts, 2)


def _row(measure: str, texts: str, found: dict[str, Figure], conditions: Sequence[str]) -> Row:
    numbers = sorted({f.number for f in found.values()})
    chances = list(dict.fromkeys(figure(f.chance, f.unit) for f in found.values() if f.chance is not None))
    notes: dict[str, list[str]] = defaultdict(list)
    for name in conditions:
        if name in found and found[name].note:
            notes[found[name].note].append(name)
    return Row(
        measure=measure,
        texts=texts,
        cells=tuple(_cell(found.get(name)) for name in conditions),
        number=count(numbers[0]) if len(numbers) == 1 else f"{count(numbers[0])} to {count(numbers[-1])}",
        chance=" / ".join(chances),
        notes=tuple(note if len(of) == len(found) else f"{', '.join(of)}: {note}" for note, of in notes.items()),
        decides=any(f.question for f in found.values()),
    )


def _cell(found: Figure | None) -> Cell:
    if found is None:
        return Cell(value=MISSING)
    interval = between(found.low, found.high, found.unit)
    return Cell(value=figure(found.value, found.unit), interval=interval, sort=sort_key(found.value))


def document_tables(values: Iterable[DocumentValue], order: Sequence[str]) -> list[DocumentTable]:
    """One table for each measure of each section.

    Args:
        values: of documents.
        order: names of conditions.
    """
    kinds: dict[tuple[str, str], list[DocumentValue]] = defaultdict(list)
    for value in values:
        kinds[value.section, value.measure].append(value)
    return [_document_table(section, measure, members, order) for (section, measure), members in kinds.items()]


def _document_table(section: str, measure: str, values: Sequence[DocumentValue], order: Sequence[str]) -> DocumentTable:
    conditions = tuple(name for name in order if any(v.condition == name for v in values))
    rows: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    unseen: dict[str, list[float]] = defaultdict(list)
    for value in values:
        if value.texts == UNSEEN:
            unseen[value.condition].append(value.value)
        else:
            rows[value.texts, value.document][value.condition] = value.value
    shown = [
        (texts, document, tuple(_plain(found.get(name)) for name in conditions))
        for (texts, document), found in list(rows.items())[:MOST_ROWS]
    ]
    others = len({v.document for v in values if v.texts == UNSEEN})
    return DocumentTable(
        section=section,
        measure=measure,
        conditions=conditions,
        rows=tuple(shown),
        left_out=len(rows) - len(shown),
        unseen=(others, tuple(_spread(unseen.get(name, [])) for name in conditions)),
    )


def _plain(value: float | None) -> Cell:
    return Cell(value=figure(value, ""), sort=sort_key(value))


def _spread(values: list[float]) -> Cell:
    known = sorted(v for v in values if not math.isnan(v))
    if not known:
        return Cell(value=MISSING)
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return Cell(value=figure(middle, ""), interval=f"{figure(known[0], '')} to {figure(known[-1], '')}")
