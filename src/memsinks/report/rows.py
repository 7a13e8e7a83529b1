"""The rows of the table of arms, once for every output."""

from dataclasses import dataclass
from typing import Literal, cast

from memsinks.report.format import MISSING, count, interval, number, percent, percent_interval
from memsinks.report.schema import Interval, PlainArm, Results

COLUMNS = ("Model", "Loss, repeated", "Loss, validation", "Extracted", "Steps", "Tokens", "Parameters")

ARM_NAMES = {
    "standard": "Standard (with repetition)",
    "deduplicated": "Deduplicated (once through)",
    "deduplicated_equal_steps": "Deduplicated (as many steps as standard)",
}
MODE_NAMES = {
    "own": "Sinks: each story's own on",
    "off": "Sinks: off",
    "placebo": "Sinks: an unrelated ID's on (placebo)",
}


@dataclass(frozen=True)
class Cell:
    """A figure and, where there is one, its 95 % interval."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """One model, or one mode of a model, as written; the cells follow :data:`COLUMNS` after the first."""

    key: str
    name: str
    cells: tuple[Cell, ...]


def arm_rows(results: Results) -> list[Row]:
    """One row for each plain arm and one for each mode of the sinks arm."""
    arms = results["arms"]
    plain: dict[str, PlainArm] = {
        "standard": arms["standard"],
        "deduplicated": arms["deduplicated"],
        "deduplicated_equal_steps": arms["deduplicated_equal_steps"],
    }
    rows = []
    for key, arm in plain.items():
        between = arm["intervals"]
        cells = (
            _loss(arm["repeated_loss"], between["repeated_loss"]),
            _loss(arm["validation_loss"], between["validation_loss"]),
            _extracted(results, key),
            *_sizes(arm["steps"], arm["tokens"], count(arm["parameters"])),
        )
        rows.append(Row(key, ARM_NAMES[key], cells))
    sinks = arms["sinks"]
    modes: tuple[Literal["own", "off", "placebo"], ...] = ("own", "off", "placebo")
    intervals = sinks["intervals"]
    for mode in modes:
        parameters = count(sinks["parameters"])
        if mode != "off":
            parameters += f" + {count(sinks['sink_parameters'])} in sinks"
        cells = (
            _loss(sinks["repeated_loss"][mode], intervals["repeated_loss"][mode]),
            _loss(sinks["validation_loss"][mode], intervals["validation_loss"][mode]),
            _extracted(results, f"sinks_{mode}"),
            *_sizes(sinks["steps"], sinks["tokens"], parameters),
        )
        rows.append(Row(f"sinks_{mode}", MODE_NAMES[mode], cells))
    return rows


def _sizes(steps: int, tokens: int, parameters: str) -> tuple[Cell, Cell, Cell]:
    return Cell(count(steps)), Cell(count(tokens)), Cell(parameters)


def _loss(value: float, bounds: Interval) -> Cell:
    return Cell(number(value), interval(bounds))


def _extracted(results: Results, key: str) -> Cell:
    rates = cast(dict[str, float], results["extraction"])
    bounds = cast(dict[str, Interval], results["extraction_intervals"])
    return Cell(percent(rates[key]), percent_interval(bounds[key])) if key in rates else Cell(MISSING)
