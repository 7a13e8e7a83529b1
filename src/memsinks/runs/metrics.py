"""The names of logged figures, and the file ``metrics.jsonl`` that keeps them."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks.corpus.files import append_text
from memsinks.errors import InputError
from memsinks.runs.gauge import HISTOGRAM, Gauge
from memsinks.runs.gauge import Meter as Meter
from memsinks.sinks.modes import ModeKind

METRICS = "metrics.jsonl"
HEADER = {"format": "memsinks-metrics", "format_version": 1}
EVALUATION = "eval_"
PLAIN = "plain"
"""What a measurement without any mode, of a model without sinks, is called."""

_MODES = (*get_args(ModeKind), PLAIN)
_FIGURES = (
    "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second", "mfu", "padding_share", "waiting_share",
    "elapsed_seconds", "skipped_steps",
)  # fmt: skip


def evaluation_name(documents: str, mode: str) -> str:
    """The flat name of a loss; trackers show ``eval_repeated_own`` as ``eval/repeated_own``."""
    return f"{EVALUATION}{documents}_{mode}"


@dataclass(frozen=True)
class LogEntry:
    """One call of ``on_log``, by kind; each part is empty where the logs hold nothing of it.

    Attributes:
        training: loss, learning rate, speed and so on, by name.
        evaluation: documents -> mode -> loss in nats per token.
        exposures: bin -> number of sequence IDs.
    """

    training: dict[str, float]
    evaluation: dict[str, dict[str, float]]
    exposures: dict[str, float]


def parse_logs(logs: Mapping[str, float]) -> LogEntry:
    """Flat names back to their kinds; names of others (Trainer's summary at the end) are left out."""
    evaluation: dict[str, dict[str, float]] = {}
    for name, value in logs.items():
        documents, _, mode = name.removeprefix(EVALUATION).rpartition("_")
        if name.startswith(EVALUATION) and documents and mode in _MODES:
            evaluation.setdefault(documents, {})[mode] = value
    training = {name: logs[name] for name in _FIGURES if name in logs} if "loss" in logs else {}
    exposures = {n.removeprefix(HISTOGRAM): v for n, v in logs.items() if n.startswith(HISTOGRAM)}
    return LogEntry(training, evaluation, exposures)


class MetricsWriter(TrainerCallback):
    """Appends what is logged to ``metrics.jsonl``, one JSON object a line, on rank 0.

    Put it on every rank, in front of :class:`memsinks.runs.evaluation.Evaluation` and behind whatever asks for
    checkpoints: it asks for a log entry with each checkpoint and at the end, so that a resumed run averages its loss
    over the same steps as one that never stopped.

    Args:
        file: where to write; on resume, lines of later steps are dropped.
        gauge: gets the seconds that the run had taken before a resume.
        now: the wall-clock time.
    """

    def __init__(
        self, file: Path, gauge: Gauge | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._file = file
        self._gauge = gauge
        self._now = now

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file, or cut it at the step that is resumed from."""
        if not state.is_world_process_zero:
            return
        kept = start_metrics(self._file, state.global_step)
        if self._gauge is not None:
            self._gauge.elapsed_before = max(
                (e["elapsed_seconds"] for e in kept if "elapsed_seconds" in e), default=0.0
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a log entry with each checkpoint and at the end."""
        control.should_log = control.should_log or control.should_save or state.global_step >= state.max_steps
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append a line for each kind of entry."""
        if not state.is_world_process_zero:
            return
        entry = parse_logs(logs or {})
        parts: list[dict[str, Any]] = [entry.training] if entry.training else []
        parts += [{"evaluation": entry.evaluation}] if entry.evaluation else []
        parts += [{"exposures": entry.exposures}] if entry.exposures else []
        moment = self._now().isoformat(timespec="seconds").replace("+00:00", "Z")
        text = "".join(_line({"step": state.global_step, **part, "time": moment}) for part in parts)
        if text:
            append_text(self._file, text)


def start_metrics(file: Path, step: int) -> list[dict[str, Any]]:
    """Make ``file`` hold the header and its entries up to ``step``; none of them for step 0. Returns those entries.

    Raises:
        InputError: the file holds something else than metrics.
    """
    kept = [entry for entry in read_metrics(file) if entry["step"] <= step] if step and file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write("".join(map(_line, [HEADER, *kept])))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    return kept


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The entries of a ``metrics.jsonl``, in order.

    A last line that is only half there (the run was killed, or is writing it now) is left out.

    Raises:
        InputError: the file cannot be read, or a line is not what :class:`MetricsWriter` writes.
    """
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    lines = text.split("\n")
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise InputError(
                f"{file}, line {number}: not JSON ({error.msg}); the file was altered: mend the line or delete it"
            ) from error
        problem = _header_problem(found[0]) if number == 1 else _problem(found[-1])
        if problem:
            raise InputError(f"{file}, line {number}: {problem}")
    return found[1:]


def _header_problem(header: Any) -> str | None:
    if not isinstance(header, dict) or header.get("format") != HEADER["format"]:
        return f"a metrics file begins with {json.dumps(HEADER)}; give the metrics.jsonl of a run"
    if header.get("format_version") != HEADER["format_version"]:
        return (
            f"format version {header.get('format_version')!r}, and this memsinks reads {HEADER['format_version']}; "
            "read it with the memsinks that wrote it"
        )
    return None


def _problem(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not _is_count(entry.get("step")):
        return "an entry must be an object with a whole number 'step'"
    numbers = {name: entry[name] for name in _FIGURES if name in entry}
    for kind in ("evaluation", "exposures"):
        part = entry.get(kind, {})
        if not isinstance(part, dict):
            return f"{kind!r} must be an object, not {part!r}"
        for name, value in part.items():
            if kind == "evaluation" and not isinstance(value, dict):
                return f"evaluation.{name} must be an object, not {value!r}"
            numbers |= {f"{name} {mode}": v for mode, v in value.items()} if kind == "evaluation" else {name: value}
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"{name} must be a number or null, not {value!r}"
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(_finite(entry), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: null."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
