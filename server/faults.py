"""Whatever goes wrong below becomes an error of ours: a crash, and what a library wrote in its own
words.

Pure ASGI, innermost: what lies around it (CORS, the envelope) treats these replies like any other.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upscale import logs
from upscale.errors import Draining, ServerFault, UpscaleError
from upscale.server.errors import error_reply, of_status

log = logs.get("server")

# What an error of a library's keeps of its headers.
_KEPT = ("allow", "content-range", "etag")


class BrokenOff(ConnectionError):
    """A reply that has begun cannot be ended; whoever raises it has told the log why."""


class Faults:
    """Wraps an application that is itself inside the envelope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        begun = replaced = False

        async def answer(error: UpscaleError, status: int, headers: MutableHeaders) -> None:
            kept = {name: headers[name] for name in _KEPT if name in headers}
            await error_reply(error, status=status, headers=kept)(scope, receive, send)

        async def watched(message: Message) -> None:
            nonlocal begun, replaced
            if replaced:
                return
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(raw=list(message["headers"]))
                if message["status"] >= 400 and not _is_json(headers):
                    replaced = True
                    error = of_status(message["status"], request.method, request.url.path)
                    await answer(error, message["status"], headers)
                    return
            await send(message)

        async def fail(error: ServerFault) -> None:
            # What was begun can only be broken off, which a caller sees by its length.
            if not begun:
                await answer(error, error.status, MutableHeaders())

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            # The server's patience at shutdown is over. The task ends here either way.
            await fail(Draining("The server is shutting down; try again in a minute."))
        except BrokenOff as fault:
            await fail(ServerFault(str(fault)))
        except Exception:
            log.exception("unexpected failure", extra=logs.fields(request=request.state.request_id))
            await fail(
                ServerFault("Something unexpected went wrong. The server's log has the details.")
            )


def _is_json(headers: MutableHeaders) -> bool:
    return headers.get("content-type", "").startswith("application/json")
