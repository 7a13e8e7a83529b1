"""The choice of one token from a row of logits, independent of the rows beside it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from memsinks.sinks.selection import mix


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token.
        top_p: only the most likely tokens that together have this probability are drawn from.
        seed: of the draws; None draws anew each time.
        logprobs: alternatives to report with each token; None reports no log-probabilities.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int | None = None


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Choice:
    """One chosen token.

    Attributes:
        token: its number.
        logprob: natural logarithm of its probability, before temperature and top_p; None if not asked for.
        top: the most likely tokens, with theirs.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one completion.

    Args:
        sampling: how.
        number: of the completion in its request, so that completions of one seed differ.
    """

    def __init__(self, sampling: Sampling, number: int = 0) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(mix(mix(sampling.seed) + number) >> 1)

    def choose(self, logits: Tensor) -> Choice:
        """Choose by logits, ``float [vocabulary]`` on the CPU."""
        token = self._token(logits)
        if self._sampling.logprobs is None:
            return Choice(token)
        logprobs = logits.double().log_softmax(0)
        top = logprobs.topk(self._sampling.logprobs)
        return Choice(token, float(logprobs[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))

    def _token(self, logits: Tensor) -> int:
        if not self._sampling.temperature:
            return int(logits.argmax())
        likely, tokens = (logits.double() / self._sampling.temperature).softmax(0).sort(descending=True, stable=True)
        total = likely.cumsum(0)
        kept = int((total - likely < self._sampling.top_p).sum())
        drawn = torch.rand((), dtype=torch.float64, generator=self._generator) * total[kept - 1]
        return int(tokens[min(int(torch.searchsorted(total, drawn, right=True)), kept - 1)])
