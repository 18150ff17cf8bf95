"""Which web pages may call the server from a browser: none, unless the operator names them."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

_SECONDS = 600
_READABLE = [
    "x-request-id",
    "x-should-retry",
    "Retry-After",
    "X-Lumenfall-Provider",
    "X-Lumenfall-Model",
    "X-Lumenfall-Request-Id",
]


def allow_origins(app: FastAPI, origins: str) -> None:
    """Let pages of the comma-separated `origins` (`*`: all) call `app`. No cookies are involved."""
    named = [origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()]
    if named:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=named,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_READABLE,
            max_age=_SECONDS,
        )
