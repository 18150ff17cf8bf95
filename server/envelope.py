"""What every reply has: the request's id, the gateway's headers, a line in the log.

Pure ASGI, outermost of ours, so that it holds for unknown paths, crashes and preflights too.
"""

from __future__ import annotations

import re
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upscale import logs
from upscale.server.ids import request_id

log = logs.get("server")

# Header values where nothing ran.
NONE = "none"

# In any path, however it is written: whoever has the name has the picture.
_MEDIA_NAME = re.compile(r"[0-9A-Za-z]{20,}\.[A-Za-z]{3,4}")


def stamps(request: str, provider: str = NONE, model: str = NONE) -> dict[str, str]:
    """The headers that every reply has."""
    return {
        "X-Lumenfall-Provider": provider,
        "X-Lumenfall-Model": model,
        "X-Lumenfall-Request-Id": request,
        "x-request-id": request,
    }


class Envelope:
    """Wraps an application; `scope["state"]` gets `request_id`, `provider` and `model`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        request = Request(scope)
        request.state.request_id = request_id()
        request.state.provider = request.state.model = NONE
        status: int | None = None

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=list(message["headers"]))
                state = request.state
                for name, value in stamps(state.request_id, state.provider, state.model).items():
                    headers[name] = value
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            await self._app(scope, receive, stamped)
        finally:
            # Percent-encoded as it came, so that no path can forge a line.
            path = scope.get("raw_path", b"").decode("latin-1")
            log.info(
                "request",
                extra=logs.fields(
                    method=request.method,
                    path=_MEDIA_NAME.sub("***", path)[:200],
                    status=status,
                    ms=round((time.monotonic() - begun) * 1000),
                    request=request.state.request_id,
                ),
            )
