"""Requests and answers of ``/v1/completions``, as OpenAI's interface has them, with the field ``sinks``."""

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from memsinks.serving.generation import Finish, TokenReport
from memsinks.serving.guard import Wanted
from memsinks.serving.routing import Route
from memsinks.serving.sampling import Sampling

_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "user": ("",),
}
"""Fields of OpenAI's interface that must have one of these values, or null."""

_STRICT = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
_Stop = Annotated[str, Field(min_length=1, max_length=1000)]
_Tokens = Annotated[list[int], Field(min_length=1)]


class SinksField(BaseModel):
    """Whose sinks to switch on."""

    model_config = _STRICT

    sources: list[str] = Field(default=[], max_length=10_000)
    documents: list[str] = Field(default=[], max_length=10_000)
    ids: list[str] = Field(default=[], max_length=10_000)


class StreamOptions(BaseModel):
    """What a stream has besides the text."""

    model_config = _STRICT

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """The body of a request."""

    model_config = _STRICT

    model: str
    prompt: str | Annotated[list[str], Field(min_length=1)] | _Tokens | Annotated[list[_Tokens], Field(min_length=1)]
    max_tokens: int = Field(default=16, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    n: int = Field(default=1, ge=1)
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    logprobs: int | None = Field(default=None, ge=0, le=5)
    sinks: Literal["off"] | SinksField = "off"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = {key: value for key, value in content.items() if value is not None}
        for name, allowed in _UNSUPPORTED.items():
            if name in content and content.pop(name) not in allowed:
                raise ValueError(f"{name} is not supported; leave it out")
        return content

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, seed=self.seed, logprobs=self.logprobs)

    @property
    def leaves_sinks_open(self) -> bool:
        """Whether it says nothing of sinks, not even that they are off."""
        return "sinks" not in self.model_fields_set

    def wanted(self) -> Wanted | None:
        """Whose sinks are asked for; None for off."""
        if isinstance(self.sinks, str):
            return None
        return Wanted(
            sources=tuple(self.sinks.sources), documents=tuple(self.sinks.documents), ids=tuple(self.sinks.ids)
        )


class Envelope:
    """What all parts of one answer share.

    Args:
        model: its name.
    """

    def __init__(self, model: str) -> None:
        self._fields = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def around(self, choices: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """An answer, or a chunk of one."""
        return {**self._fields, "choices": choices, **fields}


def choice(
    index: int,
    text: str,
    tokens: Sequence[TokenReport],
    finish: Finish | None,
    reported: bool,
    route: Route | None = None,
) -> dict[str, Any]:
    """One completion, or something new of it.

    Args:
        index: its number.
        text: of it.
        tokens: in the text.
        finish: how it ended.
        reported: whether tokens were asked for.
        route: of its prompt, if that was routed.
    """
    logprobs = {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [token.top for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }
    found = {"index": index, "text": text, "logprobs": logprobs if reported else None, "finish_reason": finish}
    if route is not None:
        found["route"] = {"source": route.source, "score": route.score, "margin": route.margin}
    return found


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Counts of tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def error(message: str, *, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """The body of an answer that is an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
