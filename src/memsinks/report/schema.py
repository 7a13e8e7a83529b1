"""What a run's ``results.json`` holds: typed, and checked before anything is drawn from it.

Losses are nats per token. An interval is a ``[low, high]`` list at 95 %. ``null`` stands for a measure that is not
defined (a zero denominator), with ``null`` bounds.
"""

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from memsinks.errors import InputError

FORMAT_VERSION = 1

Interval = tuple[float, float]
OptionalInterval = tuple[float | None, float | None]
Direction = Literal["at_least", "at_most", "below"]


class PlainPoint(TypedDict):
    """Losses of a plain arm after ``step`` optimiser steps."""

    step: int
    repeated: float
    validation: float


class SinksPoint(TypedDict):
    """Losses of the sinks arm after ``step`` optimiser steps."""

    step: int
    repeated_own: float
    repeated_off: float
    validation_off: float


class ByMode(TypedDict):
    """A loss with each story's own sinks, with none, and with those of an unrelated ID."""

    own: float
    off: float
    placebo: float


class IntervalByMode(TypedDict):
    """Intervals of :class:`ByMode`."""

    own: Interval
    off: Interval
    placebo: Interval


class PlainIntervals(TypedDict):
    """Intervals of a plain arm's losses."""

    repeated_loss: Interval
    validation_loss: Interval


class SinksIntervals(TypedDict):
    """Intervals of the sinks arm's losses."""

    repeated_loss: IntervalByMode
    validation_loss: IntervalByMode


class Data(TypedDict):
    """How much text there was."""

    repeated_stories: int
    exposures: int
    other_stories: int
    validation_stories: int
    description: str


class PlainArm(TypedDict):
    """An arm without sinks."""

    repeated_loss: float
    validation_loss: float
    intervals: PlainIntervals
    steps: int
    tokens: int
    seconds: float
    curve: list[PlainPoint]
    parameters: int


class SinksArm(TypedDict):
    """The arm with sinks; ``parameters`` counts the plain model, ``sink_parameters`` what sits beside it."""

    repeated_loss: ByMode
    validation_loss: ByMode
    intervals: SinksIntervals
    steps: int
    tokens: int
    seconds: float
    curve: list[SinksPoint]
    parameters: int
    sink_parameters: int


class Arms(TypedDict):
    """The trained models."""

    standard: PlainArm
    deduplicated: PlainArm
    deduplicated_equal_steps: PlainArm
    sinks: SinksArm


class MeasureIntervals(TypedDict):
    """Intervals of the three measures."""

    gap_closure: OptionalInterval
    forgetting: OptionalInterval
    removable_memory: OptionalInterval


class Extraction(TypedDict):
    """Fraction of repeated documents that greedy decoding reproduces exactly."""

    standard: float
    deduplicated: float
    sinks_own: float
    sinks_off: float


class ExtractionIntervals(TypedDict):
    """Intervals of the rates."""

    standard: Interval
    deduplicated: Interval
    sinks_own: Interval
    sinks_off: Interval


class ExtractionProtocol(TypedDict):
    """Tokens given and tokens compared."""

    prefix: int
    suffix: int


class MatchingTokens(TypedDict):
    """Tokens of each continuation before its first wrong one."""

    standard: int
    sinks_own: int
    sinks_off: int


class MatchingText(TypedDict):
    """The text of those tokens."""

    standard: str
    sinks_own: str
    sinks_off: str


class ExtractionExample(TypedDict):
    """One document's continuations."""

    document: str
    prefix: str
    expected: str
    standard: str
    sinks_own: str
    sinks_off: str
    matching_tokens: MatchingTokens
    matching_text: MatchingText


class Target(TypedDict):
    """One target, see :func:`target`; the names that the verdicts look for are in :mod:`memsinks.report.verdicts`."""

    name: str
    value: float
    limit: float
    direction: Direction
    met: bool
    text: str


class Results(TypedDict):
    """The whole file."""

    format_version: int
    seed: int
    config: dict[str, Any]
    versions: dict[str, Any]
    seconds: float
    data: Data
    arms: Arms
    gap_closure: float | None
    forgetting: float | None
    removable_memory: float | None
    intervals: MeasureIntervals
    extraction: Extraction
    extraction_intervals: ExtractionIntervals
    extraction_protocol: ExtractionProtocol
    extraction_example: ExtractionExample
    damage: dict[str, float]
    damage_labels: NotRequired[dict[str, str]]
    targets: list[Target]
    notes: list[str]


def target(name: str, value: float, limit: float, direction: Direction, text: str) -> Target:
    """A target with ``met`` filled in; ``text`` says in plain words what is wanted."""
    met = reaches(value, limit, direction)
    return Target(name=name, value=value, limit=limit, direction=direction, met=met, text=text)


def reaches(value: float, limit: float, direction: Direction) -> bool:
    """Whether ``value`` lies on the wanted side of ``limit``; NaN never does."""
    match direction:
        case "at_least":
            return value >= limit
        case "at_most":
            return value <= limit
        case "below":
            return value < limit


def validate(results: Any) -> Results:
    """Return ``results`` unchanged if it follows the schema; further keys are allowed.

    Raises:
        InputError: a key is missing or has a value of the wrong type (the message names it), the format version is
            another, or a target says ``met`` against its own numbers.
    """
    _check(results, Results, "")
    if results["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"results: format_version is {results['format_version']}, this memsinks reads {FORMAT_VERSION}"
        )
    for i, item in enumerate(results["targets"]):
        if item["met"] != reaches(item["value"], item["limit"], item["direction"]):
            raise InputError(
                f"results: targets[{i}] ({item['name']}) says met is {item['met']}, but its value is {item['value']} "
                f"and its limit {item['direction']} {item['limit']}"
            )
    return results


def _check(value: Any, kind: Any, where: str) -> None:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if is_typeddict(kind):
        _check_keys(value, kind, where)
    elif origin is UnionType:
        if value is not None:
            _check(value, next(a for a in arguments if a is not NoneType), where)
    elif origin is Literal:
        _require(value in arguments, where, f"one of {', '.join(map(repr, arguments))}", value)
    elif origin is dict:
        _require(isinstance(value, Mapping), where, "an object", value)
        for key, item in value.items():
            _check(item, arguments[1], f"{where}.{key}")
    elif origin is list:
        _require(isinstance(value, list), where, "a list", value)
        for i, item in enumerate(value):
            _check(item, arguments[0], f"{where}[{i}]")
    elif origin is tuple:
        _require(isinstance(value, list | tuple) and len(value) == 2, where, "a [low, high] pair", value)
        for i, (item, item_kind) in enumerate(zip(value, arguments, strict=True)):
            _check(item, item_kind, f"{where}[{i}]")
    elif kind is float:
        finite = isinstance(value, int | float) and not isinstance(value, bool) and not math.isinf(value)
        _require(finite, where, "a number", value)
    else:
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        _require(right, where, {"int": "an integer", "str": "a string", "bool": "true or false"}[kind.__name__], value)


def _check_keys(value: Any, kind: Any, where: str) -> None:
    _require(isinstance(value, Mapping), where or "the file", "an object", value)
    for key, item_kind in get_type_hints(kind).items():
        path = f"{where}.{key}" if where else key
        if key in value:
            _check(value[key], item_kind, path)
        elif key in kind.__required_keys__:
            raise InputError(f"results: {path} is missing")


def _require(condition: bool, where: str, wanted: str, value: Any) -> None:
    if not condition:
        raise InputError(f"results: {where} must be {wanted}, not {str(value)[:60]!r}")
