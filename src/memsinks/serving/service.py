"""A model that is served, and what is needed to serve it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.checkpoint.lineage import Lineage
from memsinks.checkpoint.run import load
from memsinks.corpus.tokenizer import load_tokenizer
from memsinks.errors import ConfigError, InputError
from memsinks.ids import from_tensor
from memsinks.runs.lineage import lineage_of
from memsinks.serving.decoding import decode
from memsinks.serving.engine import Engine
from memsinks.serving.exclusions import Exclusions
from memsinks.serving.generation import Generation, Piece
from memsinks.serving.guard import Guard, Refusal, Wanted
from memsinks.serving.names import Names
from memsinks.serving.prompts import Prompts
from memsinks.serving.routing import Route, Router, choose
from memsinks.serving.wire import CompletionRequest
from memsinks.sinks.modes import Mode

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes on.

    Attributes:
        max_ids: most sequence IDs whose sinks a request may switch on.
        max_tokens: most tokens that a completion may have.
        batch_size: most completions that are generated together, and that a request may ask for.
        queue_size: most completions that wait.
        wait_seconds: how long the first completion of a batch waits for others.
        poll_seconds: time between two readings of what is removed and denied.
    """

    max_ids: int = 100
    max_tokens: int = 1024
    batch_size: int = 16
    queue_size: int = 64
    wait_seconds: float = 0.005
    poll_seconds: float = 2.0


@dataclass(frozen=True)
class Plan:
    """What a request comes to.

    Attributes:
        generations: its completions, those of the first prompt first.
        prompt_tokens: in its prompts.
        routes: of each completion; None if it was not routed.
    """

    generations: list[Generation]
    prompt_tokens: int
    routes: list[Route | None]


class Service:
    """A model with its guard and its engine; start it before it is asked.

    Args:
        name: of the model, for requests.
        model: with sinks, in evaluation mode.
        tokenizer: of the model.
        guard: decides on sinks.
        exclusions: what the guard asks.
        limits: of requests.
        router: chooses a source for requests that leave it open; None leaves their sinks off.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        guard: Guard,
        exclusions: Exclusions,
        limits: Limits,
        router: Router | None = None,
    ) -> None:
        if limits.max_tokens < 1:
            raise ConfigError(f"max_tokens is {limits.max_tokens}; a completion has at least one token")
        self.name, self.guard, self.exclusions = name, guard, exclusions
        self.router = router
        self.engine = Engine(
            partial(decode, model, permits=guard.permits),
            batch_size=limits.batch_size,
            queue_size=limits.queue_size,
            wait_seconds=limits.wait_seconds,
        )
        self._tokenizer, self._max_tokens = tokenizer, limits.max_tokens
        self._context = int(model.config.max_position_embeddings)
        self._prompts = Prompts(tokenizer, model.get_input_embeddings().num_embeddings)
        self._end = _end_tokens(model, tokenizer)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        names: Callable[[Lineage], Names | None] | None = None,
        router: Callable[[Lineage, Exclusions], Router] | None = None,
        ledger: str | Path | None,
        limits: Limits = Limits(),
        name: str | None = None,
        device: str | None = None,
    ) -> "Service":
        """Load a checkpoint to serve.

        Args:
            folder: what ``memsinks train`` wrote.
            names: makes the names of sources and documents for the checkpoint's lineage; without it, only IDs can be
                named.
            router: makes the router from the checkpoint's lineage and what is excluded, which was read once; without
                it, requests that leave their sinks open have none.
            ledger: an SQLite file or an SQLAlchemy URL; None serves without a deny-list.
            limits: of requests.
            name: of the model, for requests; default that of the folder.
            device: torch's name of one; default a GPU if there is one.

        Raises:
            CheckpointError: the folder holds no checkpoint with sinks, or it is not whole.
            InputError: the names cannot be read or belong to another checkpoint, or the router cannot be made.
            ConfigError: an impossible limit.
        """
        import torch

        if limits.poll_seconds <= 0:
            raise ConfigError(f"poll_seconds is {limits.poll_seconds}; give a positive time")
        model = load(folder)
        lineage = lineage_of(folder)
        found = None if names is None else names(lineage)
        removed = set(lineage.removed["sequence_id"].to_pylist())
        table = model.sink_allocation
        if table.removed is not None:
            removed |= set(from_tensor(table.removed.ids).tolist())
        exclusions = Exclusions(folder, removed, ledger, poll_seconds=limits.poll_seconds)
        trained = np.unique(lineage.trained["sequence_id"].to_numpy()).tolist()
        guard = Guard([*trained, *removed], excluded=exclusions.current, names=found, max_ids=limits.max_ids)
        made = None
        if router is not None:
            exclusions.refresh()
            made = router(lineage, exclusions)
            # Anew: what was read before the index was made may be too old by now.
            exclusions.refresh()
            _warn_of_large(made, guard)
        tokenizer = load_tokenizer(folder)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(name or folder.resolve().name, model, tokenizer, guard, exclusions, limits, made)

    def start(self) -> None:
        """Begin to watch what is excluded, and to generate."""
        self.exclusions.start()
        self.engine.start()

    def stop(self) -> None:
        """End both."""
        self.engine.stop()
        self.exclusions.stop()

    def plan(self, request: CompletionRequest, mode: Mode, emit: Callable[[int, Piece], None]) -> Plan:
        """The completions that a request asks for, in a mode or, if it leaves its sinks open, as they are routed.

        Args:
            request: what is asked.
            mode: that the guard gave for what is named.
            emit: called with the number of a completion and each new piece of it.

        Raises:
            InputError: a prompt or a number is out of bounds.
        """
        if request.max_tokens > self._max_tokens:
            raise InputError(f"max_tokens is {request.max_tokens}; at most {self._max_tokens} are generated here")
        prompts = request.prompts()
        count = len(prompts) * request.n
        if count > self.engine.batch_size:
            raise InputError(
                f"the request asks for {count} completions; ask for at most {self.engine.batch_size} at once"
            )
        encoded = [self._prompts.encode(prompt) for prompt in prompts]
        longest = max(map(len, encoded))
        if longest + request.max_tokens > self._context:
            raise InputError(
                f"the prompt has {longest} tokens and max_tokens is {request.max_tokens}; together at most "
                f"{self._context} fit into the model"
            )
        routed: list[tuple[Route | None, Mode]] = [(None, mode)] * len(prompts)
        if self.router is not None and request.leaves_sinks_open:
            routed = [choose(self.router, self.guard, self._prompts.text(prompt)) for prompt in prompts]
        generations = [
            Generation(
                encoded[number // request.n],
                self._tokenizer,
                max_tokens=request.max_tokens,
                end=self._end,
                emit=partial(emit, number),
                mode=routed[number // request.n][1],
                sampling=request.sampling(),
                stop=request.stops(),
                number=number,
            )
            for number in range(count)
        ]
        routes = [route for route, _ in routed for _ in range(request.n)]
        return Plan(generations, sum(map(len, encoded)), routes)


def _warn_of_large(router: Router, guard: Guard) -> None:
    modes = [guard.mode(Wanted(sources=(source,))) for source in router.sources]
    if large := sum(isinstance(mode, Refusal) and mode.reason == "too many" for mode in modes):
        _log.warning(
            "%d of %d sources have more IDs than max_ids allows; prompts like their text run without sinks",
            large,
            len(modes),
        )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text, by the tokenizer and the model's settings of generation."""
    own = model.generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return frozenset(int(token) for token in (tokenizer.eos_token_id, *listed) if token is not None)
