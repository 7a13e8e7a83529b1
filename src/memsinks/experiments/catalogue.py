"""What an experiment is: its sizes, its arms, its tables and figures, and what it can and cannot show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from memsinks.experiments.results import Key, Row, Summary, over_seeds, summarise
from memsinks.experiments.stories import StoryLab
from memsinks.report.plots import Panel

Scale = Literal["smoke", "mini", "cpu", "gpu", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
SEEDS: dict[Scale, int] = {"smoke": 1, "mini": 1, "cpu": 3, "gpu": 1, "paper": 1}
"""Seeds of a run that names none."""
_PERCENT = {"extraction": 0, "validation_cost": 1}
"""Endings of measures that tables show in percent, and with how many digits."""


@dataclass(frozen=True)
class Table:
    """A table of a report; cells are text.

    Attributes:
        title: what it shows.
        header: column titles.
        rows: one list of cells each.
        note: a sentence under it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown, with its title and note."""
        lines = [f"**{self.title}**", "", "| " + " | ".join(self.header) + " |"]
        lines.append("|---|" + "---:|" * (len(self.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines + (["", self.note] if self.note else [])) + "\n"


@dataclass(frozen=True)
class Outcome:
    """All seeds of an experiment at a scale.

    Attributes:
        seeds: seed -> its rows.
        summary: every figure over seeds.
    """

    seeds: Mapping[int, Sequence[Row]]
    summary: Mapping[Key, Summary]

    def get(self, arm: str, measure: str, mode: str = "plain", x: float | None = None) -> Summary | None:
        """A figure over seeds, or None where it was not measured."""
        return self.summary.get((arm, measure, mode, x))

    def over(self, reference: str, arm: str, measure: str, mode: str = "plain") -> Summary | None:
        """A figure over that of ``reference``, an arm without sinks, in the same seed; None where either is missing.

        Seeds have other text, which is harder in one than in another; their shares can be compared.
        """
        shares = []
        for rows in self.seeds.values():
            found = {row.key: row for row in rows}
            own, other = found.get((arm, measure, mode, None)), found.get((reference, measure, "plain", None))
            if own is not None and other is not None:
                low, high = (None if bound is None else bound / other.value for bound in (own.low, own.high))
                shares.append([replace(own, value=own.value / other.value, low=low, high=high)])
        return next(iter(summarise(shares).values()), None)

    def sweep(self, arm: str, measure: str, mode: str = "plain") -> list[tuple[float, Summary]]:
        """A figure along its sweep, in order."""
        found = [
            (x, value)
            for (a, m, d, x), value in self.summary.items()
            if (a, m, d) == (arm, measure, mode) and x is not None
        ]
        return sorted(found, key=lambda point: point[0])

    def curve(self, arm: str, measure: str, mode: str = "plain") -> list[tuple[float, Summary]]:
        """A figure along training, in order: the first point of every seed, then the second, and so on.

        A seed may have a step more than another, so its points do not stand at quite the same steps. Where one has a
        point more, because its last step is not one that is measured anyway, the curve ends with the shorter.
        """
        by_seed = [
            sorted((row.x, row.value) for row in rows if row.key[:3] == (arm, measure, mode) and row.x is not None)
            for rows in self.seeds.values()
        ]
        return [
            (fmean(x for x, _ in point), over_seeds([value for _, value in point]))
            for point in zip(*filter(None, by_seed), strict=False)
        ]


Figure = Callable[[str, str], Summary | None]
"""What is drawn of an arm, by its name, in a mode."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment, at every scale.

    Attributes:
        name: on the command line.
        title: what it is.
        claim: what the paper, or this project, says.
        supports: what a positive result supports.
        not_shown: what it does not prove.
        settings: sizes at each scale.
        text: name of the text whose arms it shares with other experiments.
        arms: how many arms it trains.
        run: measures one seed.
        tables: of the outcome.
        figures: file name -> panels of the outcome.
        prepare: makes what ``run`` gets from a setting, a seed and a folder; by default the text's :class:`StoryLab`.
    """

    name: str
    title: str
    claim: str
    supports: str
    not_shown: str
    settings: Mapping[Scale, Any]
    text: str
    arms: int
    run: Callable[[Any], list[Row]]
    tables: Callable[[Outcome], list[Table]]
    figures: Callable[[Outcome], dict[str, list[Panel]]]
    prepare: Callable[..., Any] = StoryLab

    def measure(self, scale: Scale, seed: int, output: Path, *, progress: bool) -> list[Row]:
        """The rows of one seed; arms are trained under ``output/arms``."""
        folder = output / "arms" / f"{self.text}-{scale}" / f"seed-{seed}"
        return self.run(self.prepare(self.settings[scale], seed, folder, progress=progress))


def cell(value: Summary | None, digits: int = 3, scale: float = 1.0, unit: str = "") -> str:
    """A figure with its interval."""
    if value is None:
        return "–"
    text = f"{scale * value.mean:.{digits}f}{unit}"
    if value.low is None or value.high is None:
        return text
    return f"{text} [{scale * value.low:.{digits}f}, {scale * value.high:.{digits}f}]"


def arms_table(
    outcome: Outcome, title: str, rows: Sequence[tuple[str, str, str]], columns: Mapping[str, str], note: str = ""
) -> Table:
    """A table of measures; ``rows`` are (label, arm, mode), ``columns`` title to measure."""
    body = []
    for label, arm, mode in rows:
        cells = []
        for measure in columns.values():
            found = outcome.get(arm, measure, mode)
            digits = next((digits for ending, digits in _PERCENT.items() if measure.endswith(ending)), None)
            cells.append(cell(found) if digits is None else cell(found, digits, 100, " %"))
        if any(c != "–" for c in cells):
            body.append([label, *cells])
    return Table(title, ["", *columns], body, note)


def points(outcome: Outcome, arm: str, measure: str, mode: str = "plain") -> dict[str, Any]:
    """The coordinates of a sweep, as :class:`memsinks.report.plots.Series` takes them."""
    return coordinates(outcome.sweep(arm, measure, mode))


def coordinates(found: Sequence[tuple[float, Summary]]) -> dict[str, Any]:
    """Those of places and figures."""
    return {
        "x": [x for x, _ in found],
        "y": [s.mean for _, s in found],
        "low": [s.low for _, s in found],
        "high": [s.high for _, s in found],
    }
