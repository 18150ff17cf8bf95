"""What every reply has: the request's id and the gateway's headers, an error's shape, a log line.

Pure ASGI, outermost of ours, so that it holds for unknown paths and for crashes too.
"""

from __future__ import annotations

import asyncio
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upscale import logs
from upscale.errors import Draining, ServerFault
from upscale.server.errors import error_reply, of_status
from upscale.server.ids import request_id

log = logs.get("server")

# Header values where nothing ran.
NONE = "none"


class Envelope:
    """Wraps an application; `scope["state"]` gets `request_id`, `provider` and `model`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.request_id = request_id()
        request.state.provider = request.state.model = NONE
        sender = _Sender(request, scope, receive, send)
        try:
            await self._app(scope, receive, sender)
        except asyncio.CancelledError:
            # The server's patience at shutdown is over. The task ends here either way.
            await sender.fail(Draining("The server is shutting down; try again in a minute."))
        except Exception:
            log.exception("unexpected failure", extra=logs.fields(request=request.state.request_id))
            await sender.fail(
                ServerFault("Something unexpected went wrong. The server's log has the details.")
            )
        finally:
            sender.log()


class _Sender:
    """Sends one reply: adds headers, and gives errors that a library wrote their shape."""

    def __init__(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        self._request, self._scope = request, scope
        self._receive, self._send = receive, send
        self._begun = time.monotonic()
        self._status: int | None = None
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            if message["status"] >= 400 and not _is_json(headers):
                self._replaced = True
                await self._shape(message["status"], headers)
                return
            self._status = message["status"]
            self._stamp(headers)
            message = {**message, "headers": headers.raw}
        await self._send(message)

    async def fail(self, error: ServerFault) -> None:
        """Answer with an error, if nothing was sent yet."""
        if self._status is None:
            self._replaced = False
            await error_reply(error)(self._scope, self._receive, self)

    def log(self) -> None:
        """One line about what was answered. Names of media links are left out."""
        # Percent-encoded as it came, so that no path can forge a line.
        path = self._scope.get("raw_path", b"").decode("latin-1")
        log.info(
            "request",
            extra=logs.fields(
                method=self._request.method,
                path=_MEDIA_NAME.sub("***", path)[:200],
                status=self._status,
                ms=round((time.monotonic() - self._begun) * 1000),
                request=self._request.state.request_id,
            ),
        )

    async def _shape(self, status: int, headers: MutableHeaders) -> None:
        error = of_status(status, self._request.method, self._request.url.path)
        kept = {k: v for k, v in headers.items() if k in ("allow", "content-range")}
        reply: Response = error_reply(error, status=status, headers=kept)
        inner = _Sender(self._request, self._scope, self._receive, self._send)
        await reply(self._scope, self._receive, inner)
        self._status = status

    def _stamp(self, headers: MutableHeaders) -> None:
        state = self._request.state
        headers["X-Lumenfall-Provider"] = state.provider
        headers["X-Lumenfall-Model"] = state.model
        headers["X-Lumenfall-Request-Id"] = headers["x-request-id"] = state.request_id


# In any path, however it is written: whoever has the name has the picture.
_MEDIA_NAME = re.compile(r"[0-9A-Za-z]{20,}\.[A-Za-z]{3,4}")


def _is_json(headers: MutableHeaders) -> bool:
    return headers.get("content-type", "").startswith("application/json")
