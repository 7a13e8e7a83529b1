"""A training run as a person follows it: on a terminal, as plain lines, and in a log file."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks.corpus.files import append_text
from memsinks.runs.following import Following, moment, span

BAR_WIDTH = 16


class _Follower(TrainerCallback, ABC):
    """Common part: keeps :class:`Following` and says what happens in lines, on rank 0."""

    def __init__(
        self,
        description: str,
        notes: Sequence[str],
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self.description = description
        self.notes = list(notes)
        self.following = Following()
        self._clock = clock
        self._now = now
        self._started = clock()
        self._elapsed_before = 0.0
        self._said = 0

    @abstractmethod
    def say(self, line: str) -> None:
        """Put out one line."""

    def note(self, text: str) -> None:
        """Add a line of its own, before training begins or while it runs."""
        self.notes.append(text)
        self._say_notes()

    def _say_notes(self) -> None:
        for note in self.notes[self._said :]:
            self.say(note)
        self._said = len(self.notes)

    def elapsed(self) -> float:
        """Seconds that the run has taken, with those before a resume."""
        return self._elapsed_before + self._clock() - self._started

    def pace(self) -> str:
        """Time taken, time left by this process's mean time for a step, and when it will be done."""
        run, gone = self.following, span(self.elapsed())
        if run.step >= run.max_steps:
            return f"took {gone}"
        if run.step <= run.first_step:
            return gone
        each = (self._clock() - self._started) / (run.step - run.first_step)
        seconds = each * (run.max_steps - run.step)
        today = self._now()
        return f"{gone}, {span(seconds)} left, done {moment(today + timedelta(seconds=seconds), today)}"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what begins."""
        self._started, self._elapsed_before = self._clock(), 0.0
        self.following = Following(step=state.global_step, max_steps=state.max_steps, first_step=state.global_step)
        if state.is_world_process_zero:
            resumed = f", resumed after step {state.global_step}" if state.global_step else ""
            self.say(f"{self.description}: {state.max_steps} steps{resumed}")
            self._say_notes()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note the step."""
        self.following.step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Say what was logged."""
        if state.is_world_process_zero:
            self.following.step = state.global_step
            if logs and "elapsed_seconds" in logs:
                self._elapsed_before = logs["elapsed_seconds"] - (self._clock() - self._started)
            for line in self.following.lines(logs or {}, self.pace()):
                self.say(line)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say how it ended."""
        if state.is_world_process_zero:
            how = "finished" if state.global_step >= state.max_steps else f"stopped before step {state.max_steps}"
            self.say(f"{self.description}: {how}, step {state.global_step}, after {span(self.elapsed())}")


class LiveView(_Follower):
    """Progress and figures on standard error; one plain line for each log entry where that is not a terminal.

    Close it when training ends in an error, or use it as a context manager: a terminal whose cursor is hidden stays so.

    Args:
        description: what is trained.
        notes: lines to show with it, the attention implementation for example.
        compact: only the bar and the loss; without a terminal, a line at the start and at the end.
        console: where to show it.
        clock: seconds from any fixed point.
        now: local time.
    """

    def __init__(
        self,
        description: str = "training",
        *,
        notes: Sequence[str] = (),
        compact: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        super().__init__(description, notes, clock, now)
        self._console = Console(stderr=True) if console is None else console
        self._compact = compact
        self._live: Live | None = None

    def __enter__(self) -> "LiveView":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave what is shown as it is, and give the terminal back."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def say(self, line: str) -> None:
        """One plain line, unless the terminal shows figures in place."""
        if self._live is None:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over the terminal."""
        in_place = self._console.is_terminal and not self._console.is_dumb_terminal
        if in_place and state.is_world_process_zero and self._live is None:
            self._live = Live(console=self._console, get_renderable=self.render, refresh_per_second=2)
        super().on_train_begin(args, state, control, **kwargs)
        if self._live is not None:
            self._live.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show what was logged; the compact view has no lines for it."""
        if not self._compact:
            super().on_log(args, state, control, logs, **kwargs)
        elif state.is_world_process_zero:
            self.following.lines(logs or {}, "")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the last figures as they are."""
        super().on_train_end(args, state, control, **kwargs)
        self.close()

    def render(self) -> RenderableType:
        """What a terminal shows now."""
        run = self.following
        head = Table.grid(padding=(0, 1))
        loss = [f"loss {run.training['loss']:.3f}"] if self._compact and "loss" in run.training else []
        head.add_row(
            Text(self.description, style="bold"),
            ProgressBar(total=max(run.max_steps, 1), completed=run.step, width=24),
            f"{run.step}/{run.max_steps}",
            Text(" ".join([*loss, self.pace()]), style="dim"),
        )
        if self._compact:
            return head
        panels = [_panel("figures", self._figures())] if run.training else []
        panels += [_panel("loss, nats per token", self._losses())] if run.evaluation else []
        panels += [_panel("exposures: IDs", self._histogram())] if run.exposures else []
        resumed = [f"resumed after step {run.first_step}"] if run.first_step else []
        return Group(head, Columns(panels), *(Text(note, style="dim") for note in [*resumed, *self.notes]))

    def _figures(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right")
        for name, value in self.following.figures():
            table.add_row(Text(name, style="dim"), value)
        return table

    def _losses(self) -> Table:
        run = self.following
        modes = list(dict.fromkeys(mode for losses in run.evaluation.values() for mode in losses))
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column("")
        for mode in modes:
            table.add_column(mode, justify="right", no_wrap=True)
        for documents, losses in run.evaluation.items():
            change = run.change.get(documents, {})
            table.add_row(
                documents, *(f"{losses[m]:.3f}{self._trend(change.get(m))}" if m in losses else "" for m in modes)
            )
        return table

    def _trend(self, change: float | None) -> str:
        if change is None:
            return ""
        up, down, level = "^v=" if self._console.options.ascii_only else "↑↓="
        return f" {level if abs(change) < 0.0005 else up if change > 0 else down}{abs(change):.3f}"

    def _histogram(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right")
        table.add_column(justify="left")
        table.add_column(justify="right")
        most = max(self.following.exposures.values())
        for name, number in self.following.exposures.items():
            table.add_row(name, bar(number, most, ascii_only=self._console.options.ascii_only), f"{number:,.0f}")
        return table


class RunLog(_Follower):
    """Appends the plain lines to a file, each with its local time.

    Args:
        file: where to write, ``run.log`` by custom; lines of earlier processes stay.
        description, notes, clock, now: as :class:`LiveView` takes them.
    """

    def __init__(
        self,
        file: Path,
        description: str = "training",
        *,
        notes: Sequence[str] = (),
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        super().__init__(description, notes, clock, now)
        self._file = file

    def say(self, line: str) -> None:
        """Append one line."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        append_text(self._file, f"{self._now():%Y-%m-%d %H:%M:%S}  {line}\n")


def bar(number: float, most: float, *, ascii_only: bool = False) -> str:
    """A bar of up to :data:`BAR_WIDTH` characters; what is not zero shows."""
    eighths = 0 if number <= 0 else max(1, round(8 * BAR_WIDTH * number / most))
    if ascii_only:
        return "#" * -(-eighths // 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim", expand=False)
