"""Stop at the next step with a checkpoint, when the system or the user asks; and stop where nothing is learned."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks.errors import TrainingError
from memsinks.training.ranks import reduced

SIGNALS = (signal.SIGTERM, signal.SIGINT)
MOST_SKIPPED = 20
"""Steps in a row that may be left out because a gradient was not finite."""


class StopOnSignal(TrainerCallback):
    """On SIGTERM or Ctrl-C, saves a checkpoint after the step under way and ends training; a second one kills as usual.

    Ranks agree after each step, so that all of them stop after the same one, whichever got the signal.

    Attributes:
        stopped: training ended that way.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._asked = False
        self._before: dict[int, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Listen, where Python allows it: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop if any rank was asked to."""
        if self._any(args.device):
            self.stopped = control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop listening."""
        self.release()

    def release(self) -> None:
        """Give signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self.release()

    def _any(self, device: torch.device) -> bool:
        return bool(reduced(torch.tensor(int(self._asked), device=device)))


class StopOnSkipped(TrainerCallback):
    """Ends a run whose steps are all left out: it would come to its end with the weights that it has now.

    Args:
        skipped: how many steps were left out so far; the same on all ranks.
    """

    def __init__(self, skipped: Callable[[], int]) -> None:
        self._skipped, self._before, self._in_a_row = skipped, skipped(), 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count.

        Raises:
            TrainingError: too many in a row.
        """
        skipped = self._skipped()
        self._in_a_row = self._in_a_row + 1 if skipped > self._before else 0
        self._before = skipped
        if self._in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"the gradient was not finite in {self._in_a_row} steps in a row, up to step {state.global_step}, so "
                "that they changed nothing: lower optimizer.learning_rate, train without precision.bf16, or look for "
                "weights that are not finite in the model that training began with, and for a pad_token_id of its "
                "configuration with which texts begin, whose embedding stays zero"
            )
