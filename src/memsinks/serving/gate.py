"""What stands before the application: the key, the largest body, and the access log."""

import hmac
import json
import logging
import time
from typing import Any

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memsinks.serving import wire

_log = logging.getLogger("memsinks.serving.access")


class Gate:
    """ASGI middleware.

    A line of the log has no text of a request: its method, path, status, the counts that the application leaves in
    ``request.state.logged``, and milliseconds.

    Args:
        app: behind it.
        key: that every request but ``/health`` has to bring as a bearer token; None lets all in.
        max_body: most bytes of a body.
    """

    def __init__(self, app: ASGIApp, key: str | None = None, max_body: int = 4 << 20) -> None:
        self._app, self._max_body = app, max_body
        self._expected = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, size = time.monotonic(), 500, 0
        logged: dict[str, Any] = {}
        scope.setdefault("state", {})["logged"] = logged

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                raise HTTPException(413, wire.error(f"the request is larger than {self._max_body} bytes"))
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._admits(scope):
                await self._app(scope, limited, noted)
            else:
                body = wire.error("no such API key", kind="authentication_error", code="invalid_api_key")
                await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, noted)
        finally:
            facts = {"method": scope["method"], "path": scope["path"], "status": status, **logged}
            _log.info(json.dumps(facts | {"milliseconds": round(1000 * (time.monotonic() - begun))}))

    def _admits(self, scope: Scope) -> bool:
        if self._expected is None or scope["path"] == "/health":
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._expected)
