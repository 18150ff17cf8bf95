"""Errors as replies: always `{"error": {"message", "type", "code", "param"}}`, never a trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from upscale import logs
from upscale.errors import (
    AllProvidersExhausted,
    InvalidRequest,
    JobCancelled,
    MethodNotAllowed,
    NotFound,
    OutputFault,
    ServerFault,
    UpscaleError,
    UpstreamError,
)

log = logs.get("server")

# The words of an operating system, without anything that could be part of a path.
_WORDS = re.compile(r"[A-Za-z][A-Za-z ,'-]*")


def error_reply(
    error: UpscaleError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The reply of an error; `status` replaces the one of its class."""
    sent = dict(headers or {})
    if error.retry is not None:
        sent["x-should-retry"] = "true" if error.retry else "false"
    if error.status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        sent["Retry-After"] = str(error.retry_after)
    return JSONResponse(error_body(error), status_code=status or error.status, headers=sent)


def error_body(error: UpscaleError) -> dict[str, dict[str, Any]]:
    """The one shape of errors; those of remote providers say more: a `reason` for programs, and
    the attempts.
    """
    body: dict[str, Any] = {
        "message": _sendable(_public(error)),
        "type": error.type,
        "code": error.code,
        "param": None if error.field is None else _sendable(error.field),
    }
    if isinstance(error, UpstreamError) and error.reason is not None:
        body["reason"] = error.reason
    if isinstance(error, UpstreamError | AllProvidersExhausted) and error.attempts:
        body["attempts"] = error.attempts
    return {"error": body}


def _public(error: UpscaleError) -> str:
    """The message for a caller: places on the server's disk are for its log only."""
    if not isinstance(error, OutputFault):
        return error.message
    reason = error.message.rpartition(": ")[2].partition(". ")[0].rstrip(".")
    told = f": {reason}" if _WORDS.fullmatch(reason) else ""
    return f"The server cannot store what this request needs{told}. Tell its operator."


def _sendable(text: str) -> str:
    """`text` with lone surrogates, which JSON lets in and UTF-8 does not let out, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of `app` one of ours."""
    app.add_exception_handler(UpscaleError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(ClientDisconnect, _gone)


def of_status(status: int, method: str, path: str) -> UpscaleError:
    """The error for a status that a library answered with."""
    if status == 404:
        return NotFound(
            f"There is nothing at {path[:100]}. Upscaling is POST /openai/v1/images/edits, "
            "models are listed by GET /openai/v1/models."
        )
    if status == 405:
        return MethodNotAllowed(f"{method} is not allowed at {path[:100]}.")
    if status == 412:
        return InvalidRequest(
            "The file is not the one that If-Match or If-Unmodified-Since asks for."
        )
    if status == 416:
        return InvalidRequest("The range lies beyond the end of the file.")
    if status >= 500:
        return ServerFault("Something went wrong on the server. Its log has the details.")
    return InvalidRequest(f"The request to {path[:100]} cannot be served as it stands ({status}).")


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, UpscaleError)
    if error.status >= 500:
        log.error(
            error.message,
            extra=logs.fields(request=request.state.request_id, error=type(error).__name__),
        )
    return error_reply(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method == "OPTIONS":
        allowed = (error.headers or {}).get("Allow", "")
        return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
    ours = of_status(error.status_code, request.method, request.url.path)
    return error_reply(ours, status=error.status_code, headers=error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "invalid"}
    field = str(first["loc"][-1]) if first["loc"] else None
    return error_reply(InvalidRequest(f"Invalid request: {first['msg']}.", field=field))


async def _gone(request: Request, error: Exception) -> Response:
    return error_reply(JobCancelled("The caller closed the connection."))
