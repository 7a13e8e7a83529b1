"""Losses of chosen text at intervals while a model trains."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.errors import ConfigError
from memsinks.runs.gauge import Gauge
from memsinks.runs.metrics import PLAIN, evaluation_name
from memsinks.sinks.modes import ModeLike, as_mode
from memsinks.training.run import bf16_pays


class Evaluation(TrainerCallback):
    """Mean losses of sets of documents before the first step, every few steps, and after the last.

    It draws no random numbers and leaves the model as it was, so training ends with the same bits as without it. All
    ranks measure (a sharded model's forward is a collective); rank 0 logs. A resumed run does not measure the step it
    resumes from again.

    Args:
        model: what to measure; with sinks attached unless ``modes`` holds None only.
        documents: sets of documents, by name, ``repeated`` and ``validation`` for example; empty ones are left out.
        modes: which sinks to switch on; None measures a plain model.
        every: steps between measurements.
        max_length: tokens the model may see at once; as in training.
        log: gets the losses by flat name, ``eval_repeated_own`` for example; Trainer's own ``log`` as a rule.
        gauge: leaves the time that this takes out of the training speed.
        autocast: compute in bfloat16; default where the machine multiplies it in hardware.

    Raises:
        ConfigError: ``every`` is less than 1, or a set has no name.
    """

    def __init__(
        self,
        model: nn.Module,
        documents: Mapping[str, Sequence[TokenizedDocument]],
        modes: Sequence[ModeLike | None],
        *,
        every: int,
        max_length: int,
        log: Callable[[dict[str, float]], Any],
        gauge: Gauge | None = None,
        autocast: bool | None = None,
    ) -> None:
        if every < 1:
            raise ConfigError(f"steps between evaluations must be at least 1, not {every}; leave them out instead")
        if not all(documents):
            raise ConfigError("a set of documents to evaluate has no name; call it repeated or validation, for example")
        self._model = model
        self._documents = {name: list(chosen) for name, chosen in documents.items() if len(chosen)}
        self._modes = {PLAIN if mode is None else as_mode(mode).kind: mode for mode in modes}
        self._every = every
        self._max_length = max_length
        self._log = log
        self._gauge = gauge
        self._autocast = bf16_pays() if autocast is None else autocast

    def measure(self) -> dict[str, float]:
        """Nats per token, by flat name."""
        return {
            evaluation_name(name, kind): document_losses(
                self._model, chosen, mode=mode, max_length=self._max_length, autocast=self._autocast
            ).mean
            for name, chosen in self._documents.items()
            for kind, mode in self._modes.items()
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The first measurement, unless the run resumes from one."""
        if state.global_step == 0:
            self._run(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A measurement every few steps, and after the last."""
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            self._run(state, control)

    def _run(self, state: TrainerState, control: TrainerControl) -> None:
        if not self._documents:
            return
        with self._gauge.paused() if self._gauge is not None else nullcontext():
            losses = self.measure()
        if state.is_world_process_zero:
            # Logging counts as the log entry that the step itself may have asked for: ask for it again.
            asked = control.should_log
            self._log(losses)
            control.should_log = asked
