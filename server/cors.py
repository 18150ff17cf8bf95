"""Which web pages may call the server from a browser: none, unless the operator names them."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from upscale.errors import InvalidRequest
from upscale.server.errors import error_reply

_SECONDS = 600
_READABLE = [
    "x-request-id",
    "x-should-retry",
    "Retry-After",
    "Location",
    "Preference-Applied",
    "X-Lumenfall-Provider",
    "X-Lumenfall-Model",
    "X-Lumenfall-Request-Id",
    # Of media links.
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
]


def allow_origins(app: FastAPI, origins: str) -> None:
    """Let pages of the comma-separated `origins` (`*`: all) call `app`. No cookies are involved."""
    named = [origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()]
    if named:
        app.add_middleware(
            _Cors,
            allow_origins=named,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_READABLE,
            max_age=_SECONDS,
        )


class _Cors(CORSMiddleware):
    """The library's, which says in our shape what it refuses."""

    def preflight_response(self, request_headers: Headers) -> Response:
        reply = super().preflight_response(request_headers)
        if reply.status_code < 400:
            return reply
        kept = ("access-control-", "vary")
        headers = {name: value for name, value in reply.headers.items() if name.startswith(kept)}
        reason = bytes(reply.body).decode()
        return error_reply(
            InvalidRequest(
                f"{reason}. Which web pages may call this server is its operator's setting "
                "UPSCALE_CORS_ORIGINS."
            ),
            headers=headers,
        )
