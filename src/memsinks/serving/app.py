"""The HTTP interface: a part of OpenAI's, with the field ``sinks``."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from memsinks.errors import InputError
from memsinks.serving import wire
from memsinks.serving.gate import Gate
from memsinks.serving.generation import Piece
from memsinks.serving.guard import Reason, Refusal
from memsinks.serving.service import Plan, Service
from memsinks.serving.wire import CompletionRequest

_STATUS: dict[Reason, int] = {"malformed": 400, "unknown": 404, "refused": 403, "too many": 400, "unavailable": 503}
_ENDS = {
    "refused": (403, "the sinks of this request may not be switched on any more"),
    "failed": (500, "the completion failed; the server's log says why"),
}
_GONE_SECONDS = 0.1
"""Between two looks whether the client is still there."""


def create_app(service: Service, *, key: str | None = None) -> FastAPI:
    """The application; it starts the service and stops it.

    Args:
        service: what it serves.
        key: that requests have to bring as a bearer token; None lets all in.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    # The pages that describe an interface load scripts from elsewhere.
    app = FastAPI(title="memsinks", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, key=key)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(PlainHTTPException, _failed)

    @app.get("/health")
    async def health() -> Response:
        """Whether completions, and sinks, are to be had."""
        sinks = "unavailable" if service.exclusions.current() is None else "available"
        alive = service.engine.alive
        return JSONResponse({"status": "ok" if alive else "failed", "sinks": sinks}, 200 if alive else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model."""
        return {
            "object": "list",
            "data": [{"id": service.name, "object": "model", "created": 0, "owned_by": "memsinks"}],
        }

    @app.post("/v1/completions")
    async def completions(request: CompletionRequest, http: Request) -> Response:
        """Continue prompts."""
        logged: dict[str, Any] = http.state.logged
        if request.model != service.name:
            raise HTTPException(404, wire.error(f"there is no model {request.model!r}", code="model_not_found"))
        wanted = request.wanted()
        mode = service.guard.mode(wanted)
        if wanted is not None and not (isinstance(mode, Refusal) and mode.reason in ("malformed", "unknown")):
            logged |= {"sources": list(wanted.sources), "documents": len(wanted.documents), "ids": len(wanted.ids)}
        if isinstance(mode, Refusal):
            raise HTTPException(
                _STATUS[mode.reason], wire.error(mode.message, code=f"sinks_{mode.reason}".replace(" ", "_"))
            )
        answer = _Answer(request, service.name, logged)
        try:
            plan = await asyncio.to_thread(service.plan, request, mode, answer.emit)
        except InputError as error:
            raise HTTPException(400, wire.error(str(error))) from error
        answer.begin(plan)
        if not service.engine.submit(plan.generations):
            raise HTTPException(429, wire.error("the queue is full; try again later", kind="rate_limit_error"))
        if request.stream:
            return StreamingResponse(
                answer.stream(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        return JSONResponse(await answer.whole(http))

    return app


class _Answer:
    """Collects the pieces of one request's completions, and cancels them when nobody waits any more."""

    def __init__(self, request: CompletionRequest, model: str, logged: dict[str, Any]) -> None:
        self._request, self._envelope, self._logged = request, wire.Envelope(model), logged
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        self._plan = Plan([], 0, [])

    def emit(self, index: int, piece: Piece) -> None:
        """Take a piece; called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, (index, piece))

    def begin(self, plan: Plan) -> None:
        """Note what is to come."""
        self._plan = plan
        if routed := [route.source for route in plan.routes if route is not None]:
            self._logged["routed"] = routed

    async def whole(self, http: Request) -> dict[str, Any]:
        """All of it."""
        reported = self._request.logprobs is not None
        collecting = asyncio.ensure_future(self._collected())
        try:
            while not collecting.done():
                await asyncio.wait({collecting}, timeout=_GONE_SECONDS)
                if await http.is_disconnected():
                    raise HTTPException(499, wire.error("the client is gone"))
            found = collecting.result()
        finally:
            collecting.cancel()
            usage = self._end()
        choices = []
        for index, pieces in enumerate(found):
            tokens = [token for piece in pieces for token in piece.tokens]
            text = "".join(piece.text for piece in pieces)
            route = self._plan.routes[index]
            choices.append(wire.choice(index, text, tokens, pieces[-1].finish, reported, route))
        return self._envelope.around(choices, usage=usage)

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events."""
        reported = self._request.logprobs is not None
        try:
            async for index, piece in self._arriving():
                chunk = wire.choice(index, piece.text, piece.tokens, piece.finish, reported, self._plan.routes[index])
                yield _event(self._envelope.around([chunk]))
            if self._request.stream_options.include_usage:
                yield _event(self._envelope.around([], usage=self._usage()))
        except HTTPException as error:
            yield _event(error.detail)
        finally:
            self._end()
        yield "data: [DONE]\n\n"

    async def _collected(self) -> list[list[Piece]]:
        found: list[list[Piece]] = [[] for _ in self._plan.generations]
        async for index, piece in self._arriving():
            found[index].append(piece)
        return found

    async def _arriving(self) -> AsyncIterator[tuple[int, Piece]]:
        """Pieces until every completion has ended.

        Raises:
            HTTPException: one ended badly.
        """
        left = len(self._plan.generations)
        while left:
            index, piece = await self._pieces.get()
            if piece.finish in _ENDS:
                status, message = _ENDS[piece.finish]
                raise HTTPException(status, wire.error(message, code=piece.finish))
            left -= piece.finish is not None
            yield index, piece

    def _usage(self) -> dict[str, int]:
        produced = sum(generation.produced for generation in self._plan.generations)
        return wire.usage(self._plan.prompt_tokens, produced)

    def _end(self) -> dict[str, int]:
        for generation in self._plan.generations:
            generation.cancelled = True
        usage = self._usage()
        self._logged |= usage
        return usage


def _event(content: Any) -> str:
    return f"data: {json.dumps(content)}\n\n"


async def _invalid(http: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    text = f"{where}: {first['msg']}" if where else str(first["msg"])
    return JSONResponse(wire.error(text), 400)


async def _failed(http: Request, error: Exception) -> Response:
    assert isinstance(error, PlainHTTPException)
    content: Any = error.detail
    if not isinstance(content, dict):
        content = wire.error(str(content))
    return JSONResponse(content, error.status_code, error.headers)
