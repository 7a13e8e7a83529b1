"""One completion while it is generated: from logits to tokens, text and an end."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from memsinks.serving.sampling import GREEDY, Choice, Sampler, Sampling
from memsinks.serving.text import Detokenizer, StopStrings
from memsinks.sinks.modes import OFF, Mode

Finish = Literal["stop", "length", "refused", "failed"]
"""A stop string or the end of the text; the most tokens; its sinks were denied meanwhile; an error."""


@dataclass(frozen=True)
class TokenReport:
    """One token as ``logprobs`` reports it.

    Attributes:
        text: that it added.
        offset: where in the completion that begins, in characters.
        logprob: natural logarithm of its probability.
        top: texts of the most likely tokens, with theirs.
    """

    text: str
    offset: int
    logprob: float
    top: dict[str, float]


@dataclass(frozen=True)
class Piece:
    """Something new of a completion.

    Attributes:
        text: that was added.
        tokens: that begin in it, if they are to be reported.
        finish: how the completion ended, if it did.
    """

    text: str
    tokens: tuple[TokenReport, ...] = ()
    finish: Finish | None = None


class Generation:
    """One completion.

    Args:
        prompt: tokens, at least one.
        tokenizer: of the model.
        max_tokens: most tokens to generate, at least 1.
        end: tokens that end a text.
        emit: called with each piece, in the thread that generates.
        mode: its sinks.
        sampling: how tokens are chosen.
        stop: strings that end it, and are not part of it.
        number: of the completion in its request.

    Attributes:
        produced: tokens generated so far.
        finished: how it ended, or None.
        cancelled: set it, from any thread, when nobody waits any more.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        tokenizer: Any,
        *,
        max_tokens: int,
        end: Collection[int],
        emit: Callable[[Piece], None],
        mode: Mode = OFF,
        sampling: Sampling = GREEDY,
        stop: Sequence[str] = (),
        number: int = 0,
    ) -> None:
        self.prompt, self.mode = list(prompt), mode
        self.produced = 0
        self.finished: Finish | None = None
        self.cancelled = False
        self._tokenizer, self._max_tokens, self._end, self._emit = tokenizer, max_tokens, end, emit
        self._sampler = Sampler(sampling, number)
        self._text, self._stop = Detokenizer(tokenizer, self.prompt), StopStrings(stop)
        self._seen = self._released = 0
        self._reports: list[TokenReport] = []

    def take(self, logits: Tensor) -> int:
        """Choose the next token by its logits, ``float [vocabulary]``, and pass on what text that completes."""
        choice = self._sampler.choose(logits)
        self.produced += 1
        last = self.produced == self._max_tokens
        if choice.token in self._end:
            self._pass_on(self._text.flush(), "stop")
            return choice.token
        new = self._text.add(choice.token)
        if last:
            new += self._text.flush()
        self._report(choice, new)
        self._pass_on(new, "length" if last else None)
        return choice.token

    def finish(self, reason: Finish) -> None:
        """End it where it is."""
        if self.finished is None:
            self.finished = reason
            self._emit(Piece("", (), reason))

    def _pass_on(self, new: str, finish: Finish | None) -> None:
        self._seen += len(new)
        text, stopped = self._stop.add(new)
        if stopped:
            finish = "stop"
        elif finish is not None:
            text += self._stop.flush()
        self._released += len(text)
        reported = [report for report in self._reports if report.offset < self._released]
        self._reports = self._reports[len(reported) :]
        self.finished = finish
        if text or finish is not None:
            self._emit(Piece(text, tuple(reported), finish))

    def _report(self, choice: Choice, new: str) -> None:
        if choice.logprob is not None:
            top = {self._tokenizer.decode([token]): logprob for token, logprob in choice.top}
            self._reports.append(TokenReport(new, self._seen, choice.logprob, top))
