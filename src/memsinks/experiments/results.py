"""Results of experiments as tidy rows: written per seed, summarised over seeds."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure of one seed.

    Attributes:
        arm: what was trained, or which method was applied.
        measure: what was measured: the mean token loss (nats) of a set of documents, which has the set's name, or
            one of forgetting, gap_closure, removable_memory, extraction and so on.
        mode: the sink mode, or plain; for theory, closed (form) or simulated.
        x: where on a sweep it stands: a step, a share of neurons, a setting; None off a sweep.
        value: the figure.
        low, high: 95 % interval over documents, where there is one.
    """

    arm: str
    measure: str
    value: float
    mode: str = "plain"
    x: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def key(self) -> "Key":
        """What is averaged over seeds."""
        return self.arm, self.measure, self.mode, self.x


Key = tuple[str, str, str, float | None]


@dataclass(frozen=True)
class Summary:
    """A figure over seeds.

    Attributes:
        seeds: how many.
        mean: over them.
        low, high: 95 % interval: Student's t over seeds, or over documents where there is one seed; None if unknown.
    """

    seeds: int
    mean: float
    low: float | None
    high: float | None

    def times(self, factor: float) -> "Summary":
        """In another unit."""
        low, high = (None if bound is None else factor * bound for bound in (self.low, self.high))
        return Summary(self.seeds, factor * self.mean, low, high)


def summarise(by_seed: Iterable[Sequence[Row]]) -> dict[Key, Summary]:
    """Mean and interval of every figure, in the order of first appearance."""
    found: dict[Key, list[Row]] = {}
    for rows in by_seed:
        for row in rows:
            found.setdefault(row.key, []).append(row)
    return {key: _summary(rows) for key, rows in found.items()}


def paired_difference(by_seed: Iterable[Sequence[Row]], first: Key, second: Key) -> Summary:
    """Mean and t interval over seeds of ``first - second``, which share text and data order within a seed.

    Raises:
        KeyError: a seed lacks one of the two.
    """
    differences = []
    for rows in by_seed:
        values = {row.key: row.value for row in rows}
        differences.append(values[first] - values[second])
    return over_seeds(differences)


def over_seeds(values: Sequence[float]) -> Summary:
    """Mean and t interval of one figure's values in several seeds; one value has no interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Summary(len(values), mean, None, None)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return Summary(len(values), mean, mean - half, mean + half)


def _summary(rows: list[Row]) -> Summary:
    if len(rows) == 1:
        return Summary(1, rows[0].value, rows[0].low, rows[0].high)
    found = over_seeds([row.value for row in rows])
    if rows[0].measure.rpartition("/")[2] != "extraction":
        return found
    # Student's interval knows nothing of the ends of a share.
    low, high = (None if bound is None else min(max(bound, 0.0), 1.0) for bound in (found.low, found.high))
    return Summary(found.seeds, found.mean, low, high)


def write_seed(file: Path, facts: dict[str, Any], rows: Sequence[Row]) -> None:
    """One seed's rows, with everything that led to them; what is at its default is left out."""
    defaults = {f.name: f.default for f in fields(Row)}
    entries = [{k: v for k, v in asdict(row).items() if v != defaults[k]} for row in rows]
    _write_entries(file, {"format": "memsinks-experiment", "format_version": 1, **facts}, "rows", entries)


def write_summary(file: Path, seeds: Iterable[int], summary: Mapping[Key, Summary]) -> None:
    """Every figure over seeds."""
    entries = [
        {"arm": arm, "measure": measure, "mode": mode, "x": x, **asdict(value)}
        for (arm, measure, mode, x), value in summary.items()
    ]
    _write_entries(file, {"seeds": sorted(seeds)}, "figures", entries)


def read_seed(file: Path) -> tuple[dict[str, Any], list[Row]]:
    """What :func:`write_seed` wrote."""
    content = json.loads(file.read_text())
    return content, [Row(**row) for row in content.pop("rows")]


def write_csv(file: Path, by_seed: dict[int, list[Row]]) -> None:
    """All seeds' rows in one tidy table."""
    names = [f.name for f in fields(Row)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", *names])
    for seed, rows in sorted(by_seed.items()):
        writer.writerows([seed, *(_cell(getattr(row, name)) for name in names)] for row in rows)
    _write(file, text.getvalue())


def write_json(file: Path, content: Any) -> None:
    """Write JSON that appears whole or not at all."""
    _write(file, json.dumps(content, indent=1) + "\n")


def _write_entries(file: Path, head: dict[str, Any], name: str, entries: list[dict[str, Any]]) -> None:
    """A JSON object with one long list, an entry a line."""
    begun = json.dumps({**head, name: []}, indent=1).removesuffix("[]\n}")
    _write(file, begun + "[\n" + ",\n".join(map(json.dumps, entries)) + "\n]}\n")


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
