"""Image requests for models that nobody here knows, passed on as they came: to a server of the
house or to the hosted gateway (`providers.passthrough`). Each is recorded as our own are.

`POST /openai/v1/images/generations` and `/variations` are always passed on, edits where their model
is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from upscale import logs
from upscale.errors import InvalidRequest, ModelDisabled
from upscale.providers.outcome import Failure, told
from upscale.providers.passthrough import Forwarded, Passthrough
from upscale.server import audit
from upscale.server.access import caller, check_model
from upscale.server.body import read_form, spool_body
from upscale.server.mirroring import mirrored
from upscale.server.parameters import is_dry_run
from upscale.server.recording import Recording
from upscale.server.records.keys import Key
from upscale.server.records.rows import Status
from upscale.server.running import while_connected
from upscale.server.services import Services, services
from upscale.server.spool import RequestFolder

log = logs.get("server")
router = APIRouter()

_PIECE = 1 << 18
_NAME = 200
# JSON bodies up to this size are looked into for the name of the model.
_LOOKED_INTO = 1 << 20
# Replies up to this size are looked into for links to mirror.
_MIRRORED = 64 << 20


@router.post("/openai/v1/images/generations", response_model=None)
@router.post("/openai/v1/images/variations", response_model=None)
async def pass_on(request: Request) -> Response:
    """Pass one request on."""
    ours, key = services(request), caller(request)
    ours.access.count_request(key)
    with ours.spool.request_folder() as folder:
        body = folder.path / "body"
        if is_dry_run(request.query_params):
            target = _target(ours, key)
            model = await _read(request, ours, folder, body)
            if key is not None and key.models:
                check_model(key, (model or "",))
            work = forward(request, ours, folder, target, body, None)
            return await while_connected(request, ours.running, work)
        async with ours.recorder.recording(request, key) as record:
            await record.arrive()
            target = _target(ours, key)
            model = await _read(request, ours, folder, body)
            if key is not None and key.models:
                check_model(key, (model or "",))
            await record.change(model=model)
            work = forward(request, ours, folder, target, body, record)
            return await while_connected(request, ours.running, work)


def may_forward(ours: Services, key: Key | None) -> bool:
    """Whether what is unknown here may be passed on for a key."""
    try:
        _target(ours, key)
    except ModelDisabled:
        return False
    return True


async def forward_edit(
    request: Request,
    ours: Services,
    folder: RequestFolder,
    body: Path,
    model: str,
    key: Key | None,
    record: Recording | None,
) -> Response:
    """Pass an edit by a model on that is unknown here; `body` is as it came."""
    target = _target(ours, key)
    check_model(key, (model,))
    if record is not None:
        await record.change(model=model)
    return await forward(request, ours, folder, target, body, record)


async def forward(
    request: Request,
    ours: Services,
    folder: RequestFolder,
    target: Passthrough,
    body: Path,
    record: Recording | None,
) -> Response:
    """The reply of `target`, as it arrives; `record` None for a dry run, which has none."""
    size = (await asyncio.to_thread(body.stat)).st_size
    limited = record is not None and record.key is not None
    if limited and not target.is_ours and record.key.spending_limit_micros is not None:  # type: ignore[union-attr]
        assert record is not None
        quoted = await _quoted(request, target, body, size)
        await record.change(quote_micros=quoted)
        await record.reserve(quoted)
    begun = time.monotonic()
    facts: dict[str, Any] = {
        "provider": target.provider,
        "sent_to": target.host,
        "sent_bytes": size,
    }
    if record is None:
        audit.sent(request.state.request_id, caller(request), target.host, size)
    else:
        record.tell(**facts)
        record.begin()
    stack = contextlib.AsyncExitStack()
    try:
        stack.enter_context(ours.remote.at_work())
        forwarded = await stack.enter_async_context(_asked(request, target, body, size))
    except Failure as failure:
        await stack.aclose()
        raise told(failure, target.name) from None
    except BaseException:
        await stack.aclose()
        raise
    request.state.provider = forwarded.headers.get("x-lumenfall-provider", target.provider)
    request.state.model = forwarded.headers.get("x-lumenfall-model", "unknown")
    facts |= {"executed_model": forwarded.headers.get("x-lumenfall-model")}
    headers = {k: v for k, v in forwarded.headers.items() if k != "x-lumenfall-request-id"}
    if record is not None:
        record.hand_over()
    ending = _Ending(ours, record, target, forwarded, facts, begun, request.url.path)
    if ours.settings.passthrough_mirror and forwarded.status == 200 and record is not None:
        return await _with_mirror(request, ours, folder, stack, forwarded, headers, ending)
    return StreamingResponse(
        _through(stack, forwarded, ending), status_code=forwarded.status, headers=headers
    )


class _Ending:
    """The end of a forwarded request, however its reply ends."""

    def __init__(
        self,
        ours: Services,
        record: Recording | None,
        target: Passthrough,
        forwarded: Forwarded,
        facts: dict[str, Any],
        begun: float,
        path: str,
    ) -> None:
        self._ours, self._record, self._target = ours, record, target
        self._forwarded, self._facts, self._begun, self._path = forwarded, facts, begun, path

    async def write(self, got: int, whole: bool, media: tuple[str, ...] = ()) -> None:
        """`got` bytes of the reply came, all of them or not."""
        if self._record is None:
            return
        status = self._forwarded.status
        ending: Status = "completed"
        fields: dict[str, Any] = {}
        if not whole:
            ending = "upstream_failure" if self._forwarded.cut else "cancelled"
            fields = {"error_status": 502, "error_message": "The reply broke off."}
        elif status >= 400:
            ending = "rejected" if status < 500 else "upstream_failure"
            fields = {
                "error_status": status,
                "error_message": f"{self._target.name} answered {status}.",
            }
        cost = self._forwarded.cost_micros
        billed = "no" if status >= 400 else "yes" if cost is not None else "maybe"
        attempt = {
            "provider": self._target.provider,
            "endpoint": self._path,
            "http_status": status,
            "job": self._forwarded.headers.get("x-lumenfall-request-id"),
            "billed": "no" if self._target.is_ours else billed,
            "cost_micros": cost,
            "seconds": round(time.monotonic() - self._begun, 3),
            "sent_to": [self._target.host],
        }
        if fields:
            fields["error_code"] = "UPSTREAM_ERROR"
        await self._ours.recorder.finish(
            self._record.id,
            ending,
            cost_micros=cost or 0,
            response_size_bytes=got,
            media=list(media),
            remote_attempts=[{k: v for k, v in attempt.items() if v is not None}],
            **self._facts,
            **fields,
        )


@contextlib.asynccontextmanager
async def _asked(
    request: Request, target: Passthrough, body: Path, size: int, query: str | None = None
) -> AsyncIterator[Forwarded]:
    headers = {**request.headers, "content-length": str(size)}
    async with target.forward(
        request.method,
        request.url.path,
        query=request.url.query if query is None else query,
        headers=headers,
        body=_pieces(body),
    ) as forwarded:
        yield forwarded


async def _pieces(body: Path) -> AsyncIterator[bytes]:
    with body.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _through(
    stack: contextlib.AsyncExitStack, forwarded: Forwarded, ending: _Ending
) -> AsyncIterator[bytes]:
    got, whole = 0, False
    try:
        async for piece in forwarded.pieces():
            got += len(piece)
            yield piece
        whole = True
    except Failure:
        log.warning("a forwarded reply broke off", extra=logs.fields(bytes=got))
        raise ConnectionResetError("the reply broke off") from None
    finally:
        await ending.write(got, whole)
        await stack.aclose()


async def _with_mirror(
    request: Request,
    ours: Services,
    folder: RequestFolder,
    stack: contextlib.AsyncExitStack,
    forwarded: Forwarded,
    headers: dict[str, str],
    ending: _Ending,
) -> Response:
    """The reply with its pictures behind links of ours; as it came where it is none of ours."""
    content = b""
    try:
        async for piece in forwarded.pieces():
            content += piece
            if len(content) > _MIRRORED:
                raise InvalidRequest("The reply is too large for its pictures to be mirrored.")
    except Failure as failure:
        await ending.write(len(content), whole=False)
        raise told(failure, "Passing through") from None
    except BaseException:
        await ending.write(len(content), whole=False)
        raise
    finally:
        await stack.aclose()
    content, names = await mirrored(request, ours, folder, content)
    await ending.write(len(content), whole=True, media=names)
    headers = {k: v for k, v in headers.items() if k != "content-length"}
    return Response(content, status_code=forwarded.status, headers=headers)


async def _quoted(request: Request, target: Passthrough, body: Path, size: int) -> int:
    """What it would cost, by a dry run there. Raises InvalidRequest where that cannot be told."""
    try:
        async with _asked(request, target, body, size, query="dryRun=true") as forwarded:
            content = b"".join([piece async for piece in forwarded.pieces()])
        total = json.loads(content)["total_cost_micros"] if forwarded.status == 200 else None
    except Failure as failure:
        raise told(failure, target.name) from None
    except (ValueError, KeyError, TypeError):
        total = None
    if not isinstance(total, int) or total < 0:
        raise InvalidRequest(
            f"{target.name} does not say what this costs: a key with a spending limit cannot ask "
            "for it.",
            field="model",
        )
    return total


async def _read(request: Request, ours: Services, folder: RequestFolder, body: Path) -> str | None:
    """The whole body into the file `body`; the model that it names, None where none is found."""
    limits = (ours.settings.max_body_bytes, ours.settings.upload_idle_seconds)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        names = (await read_form(request, folder, *limits, copy=body)).fields.get("model", [])
        return str(names[0])[:_NAME] if names else None
    await spool_body(request, folder, body, *limits)
    return await asyncio.to_thread(_model_in, body) if kind == "application/json" else None


def _target(ours: Services, key: Key | None) -> Passthrough:
    """Where to; raises ModelDisabled, which says how to enable it."""
    target = ours.passthrough
    if target is None:
        raise ModelDisabled(
            "This server upscales, and passes no other image request on. To have it do so, give it "
            "the key of the hosted gateway (LUMENFALL_API_KEY), or the address of an "
            "OpenAI-compatible server of the house (UPSCALE_PASSTHROUGH_BASE_URL)."
        )
    if key is not None and key.local_only and not target.is_ours:
        raise ModelDisabled(
            "What this key sends stays in the house, and the server would pass this request on to "
            f"{target.name}."
        )
    return target


def _model_in(body: Path) -> str | None:
    """The model that a JSON body names; None where it is no object, or very long."""
    if body.stat().st_size > _LOOKED_INTO:
        return None
    try:
        model = json.loads(body.read_bytes())["model"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return model[:_NAME] if isinstance(model, str) else None
