"""Image requests for models that nobody here knows, passed on as they came: to a server of the
house or to the hosted gateway (`providers.passthrough`). Each is recorded as our own are.

`POST /openai/v1/images/generations` and `/variations` are always passed on, edits where their model
is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from upscale import logs
from upscale.errors import InvalidRequest, ModelDisabled, UpstreamError
from upscale.providers import answers
from upscale.providers.outcome import Failure, Kind, told
from upscale.providers.passthrough import MOST_MICROS, Forwarded, Passthrough
from upscale.server import audit
from upscale.server.access import caller, check_model
from upscale.server.errors import error_reply
from upscale.server.forms import Form
from upscale.server.forwarded import Call
from upscale.server.forwarded_body import Named, models_in, read_body
from upscale.server.handing_on import HandedOn, gathered
from upscale.server.mirroring import MOST_BYTES, may_hold_links, mirrored
from upscale.server.parameters import is_dry_run, read_model
from upscale.server.recording import Recording
from upscale.server.records.keys import Key
from upscale.server.repeats import not_kept
from upscale.server.running import while_connected
from upscale.server.services import Services, services
from upscale.server.spool import RequestFolder
from upscale.server.wishes import idempotency_key

log = logs.get("server")
router = APIRouter()


@dataclass(frozen=True)
class Aim:
    """Where a request goes. `addresses`: what `Passthrough.in_house` said when the caller's rights
    were looked at; a name that leads elsewhere later gains nothing.
    """

    target: Passthrough
    addresses: tuple[str, ...] | None

    @property
    def of_house(self) -> bool:
        """Whether what goes there stays in the house."""
        return self.addresses is not None


_PIECE = 1 << 18
# The answer to a dry run is no longer.
_ESTIMATE_BYTES = 1 << 20
# Of an error no more is handed on.
_ERROR_BYTES = 1 << 16
# What servers and what stands before them answer where somebody behind them was too slow.
_TOO_LATE = (408, 504, 522, 524)


@router.post("/openai/v1/images/generations", response_model=None)
@router.post("/openai/v1/images/variations", response_model=None)
async def pass_on(request: Request) -> Response:
    """Pass one request on."""
    ours, key = services(request), caller(request)
    ours.access.count_request(key)
    with ours.spool.request_folder() as folder:
        body = folder.path / "body"
        if is_dry_run(request.query_params):
            aim = await _aim(ours, key)
            named = await read_body(request, ours, folder, body)
            _check_named(key, named)
            work = forward(request, ours, folder, aim, body, None)
            return await while_connected(request, ours.running, work)
        repeat = idempotency_key(request)
        async with ours.recorder.recording(request, key) as record:
            if repeat is None:
                await record.arrive()
            aim = await _aim(ours, key)
            named = await read_body(request, ours, folder, body)
            if repeat is not None:
                await _arrive_once(record, repeat, named)
            _check_named(key, named)
            await record.change(model=named.model)
            work = forward(request, ours, folder, aim, body, record)
            return await while_connected(request, ours.running, work)


async def aim_of(ours: Services, key: Key | None) -> Aim | None:
    """Where to what is unknown here is passed on for a key; None where it may not be."""
    try:
        return await _aim(ours, key)
    except ModelDisabled:
        return None


async def forward_edit(
    request: Request,
    ours: Services,
    folder: RequestFolder,
    aim: Aim,
    body: Path,
    form: Form,
    key: Key | None,
    record: Recording | None,
) -> Response:
    """Pass an edit by a model on that is unknown here: `form`, which came as `body`."""
    models_in(form)  # of two, another one may count elsewhere
    model = read_model(form)
    check_model(key, (model,))
    if record is not None:
        await record.change(model=model)
    return await forward(request, ours, folder, aim, body, record)


async def forward(
    request: Request,
    ours: Services,
    folder: RequestFolder,
    aim: Aim,
    body: Path,
    record: Recording | None,
) -> Response:
    """The reply of the other side, as it arrives; `record` None for a dry run, which has none."""
    size = (await asyncio.to_thread(body.stat)).st_size
    stack = contextlib.AsyncExitStack()
    try:
        stack.enter_context(ours.remote.at_work())
        if record is None:
            return await _dry_run(request, ours, aim, body, size, stack)
        path, free = request.url.path, aim.of_house
        call = Call(ours.recorder, record, aim.target, path, size, free=free)
        limited = record.key is not None and record.key.spending_limit_micros is not None
        if limited and not free:
            call.quote = await _quoted(request, call, aim, body)
            await record.reserve(call.quote)
        await call.begins()
        try:
            asked = _asked(request, aim, body, size, call=call)
            call.reply = await stack.enter_async_context(asked)
            return await _handed_on(request, ours, folder, stack, call)
        except Failure as failure:
            if call.reply is None:
                call.failed(failure)
            else:
                await call.ends(0, whole=False)
            raise told(failure, aim.target.name) from None
        except asyncio.CancelledError:
            await call.cancelled()
            raise
        except BaseException:
            call.tells()
            raise
    except BaseException:
        await stack.aclose()
        raise


async def _handed_on(
    request: Request,
    ours: Services,
    folder: RequestFolder,
    stack: contextlib.AsyncExitStack,
    call: Call,
) -> Response:
    """What has begun to come, on its way to the caller; the call's end is written with its last
    piece.
    """
    reply = call.reply
    assert reply is not None
    _tell_state(request, call.target, reply)
    pieces = reply.pieces()
    if reply.status >= 400:
        content, whole = await gathered(pieces, _ERROR_BYTES)
        response = _error(call.target, reply, content)
        await call.ends(len(content), whole=True)
        await stack.aclose()
        return response
    content, whole = b"", False
    if ours.settings.passthrough_mirror and may_hold_links(reply.headers):
        content, whole = await gathered(pieces, MOST_BYTES)
    if whole:
        came = len(content)
        content, names = await mirrored(request, ours, folder, content)
        await call.ends(came, whole=True, media=names)
        await stack.aclose()
        return _reply(reply, content)
    return HandedOn(content, pieces, stack, call.ends, reply.status, _headers(reply))


async def _dry_run(
    request: Request,
    ours: Services,
    aim: Aim,
    body: Path,
    size: int,
    stack: contextlib.AsyncExitStack,
) -> Response:
    """What a run would cost, as the other side says. Raises InvalidRequest where it would do the
    work instead.
    """
    target = aim.target
    if aim.of_house or not target.knows_dry_runs:
        raise InvalidRequest(
            f"{target.name} knows no dry run, and would do the work. Leave dryRun out.",
            field="dryRun",
        )
    audit.sent(request.state.request_id, caller(request), target.host, size)
    try:
        reply = await stack.enter_async_context(_asked(request, aim, body, size, dry_run=True))
        _tell_state(request, target, reply)
        pieces = reply.pieces()
        content, whole = await gathered(pieces, _ESTIMATE_BYTES)
    except Failure as failure:
        raise told(failure, target.name) from None
    if reply.status >= 400:
        response = _error(target, reply, content)
        await stack.aclose()
        return response
    if not (whole and _estimate(content)):
        _taken_for_a_run(request, target, reply)
        record = Recording(ours.recorder, request, caller(request))
        await record.arrive()
        call = Call(ours.recorder, record, target, request.url.path, size, free=False, reply=reply)
        await call.was_a_dry_run()
        return HandedOn(content, pieces, stack, call.ends, reply.status, _headers(reply))
    return HandedOn(content, pieces, stack, None, reply.status, _headers(reply))


async def _quoted(request: Request, call: Call, aim: Aim, body: Path) -> int:
    """What it would cost, by a dry run there. Raises InvalidRequest where that cannot be told."""
    target, total = call.target, None
    if target.knows_dry_runs:
        await call.asks_price()
        try:
            async with _asked(request, aim, body, call.size, dry_run=True) as reply:
                content, whole = await gathered(reply.pieces(), _ESTIMATE_BYTES)
        except Failure as failure:
            raise told(failure, target.name) from None
        found = _estimate(content) if whole else {}
        total = found.get("total_cost_micros") if reply.status == 200 else None
        if not found and reply.status < 400:
            _taken_for_a_run(request, target, reply)
            call.took_a_dry_run_for_a_run(reply.cost_micros)
    if type(total) is not int or not 0 <= total <= MOST_MICROS:
        raise InvalidRequest(
            f"{target.name} does not say what this costs: a key with a spending limit cannot ask "
            "for it.",
            field="model",
        )
    return total


def _estimate(content: bytes) -> dict[str, Any]:
    """What a dry run was answered; empty where that is no answer to one."""
    found = _json(content)
    return found if "total_cost_micros" in found else {}


def _json(content: bytes) -> dict[str, Any]:
    """The JSON object that it is; empty where it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _taken_for_a_run(request: Request, target: Passthrough, reply: Forwarded) -> None:
    """A dry run was carried out, as it seems: told loudly, and done no more."""
    target.knows_dry_runs = False
    log.error(
        "a dry run was not answered as one, and may have been carried out and billed; "
        "no other is sent there until this server starts again",
        extra=logs.fields(
            request=request.state.request_id, host=target.host, cost_micros=reply.cost_micros
        ),
    )


@contextlib.asynccontextmanager
async def _asked(
    request: Request,
    aim: Aim,
    body: Path,
    size: int,
    *,
    dry_run: bool = False,
    call: Call | None = None,
) -> AsyncIterator[Forwarded]:
    headers = {**request.headers, "content-length": str(size)}
    async with aim.target.forward(
        request.method,
        request.url.path,
        dry_run=dry_run,
        headers=headers,
        body=_pieces(body, call),
        addresses=aim.addresses or (),
    ) as forwarded:
        yield forwarded


async def _pieces(body: Path, call: Call | None) -> AsyncIterator[bytes]:
    with body.open("rb") as file:
        if call is not None:
            call.under_way = True
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


def _tell_state(request: Request, target: Passthrough, reply: Forwarded) -> None:
    request.state.provider = reply.headers.get("x-lumenfall-provider", target.provider)
    request.state.model = reply.headers.get("x-lumenfall-model", "unknown")


def _headers(reply: Forwarded) -> dict[str, str]:
    """What is handed on of them; the id of a request is ours."""
    return {k: v for k, v in reply.headers.items() if k != "x-lumenfall-request-id"}


def _reply(reply: Forwarded, content: bytes) -> Response:
    headers = {k: v for k, v in _headers(reply).items() if k != "content-length"}
    return Response(content, status_code=reply.status, headers=headers)


def _error(target: Passthrough, reply: Forwarded, content: bytes) -> Response:
    """An error of the other side, which may repeat what it was sent, our key included; in words of
    ours where it has none that a client understands, as what stands in between answers.
    """
    error = _json(content).get("error")
    if not error:
        status = 504 if reply.status in _TOO_LATE else 502
        text = f"{target.name} answered HTTP {reply.status}, without saying why."
        reason = Kind.BROKEN if reply.refused else Kind.IN_DOUBT
        return error_reply(UpstreamError(text, status=status, reason=str(reason)))
    if isinstance(error, dict) and error.get("code") == UpstreamError.code:
        reply.refused = False  # somebody behind it may have been paid
    elif isinstance(error, dict) and reply.status in answers.FAILED:
        reply.refused = True
    return _reply(reply, target.scrubbed(content, _ERROR_BYTES))


async def _arrive_once(record: Recording, name: str, named: Named) -> None:
    """Record that it came. Raises InvalidRequest for what came with this idempotency key before:
    that reply went through and is not kept, and another one would be paid for again.
    """
    earlier = await record.arrive(idempotency_key=name, fingerprint=named.mark)
    if earlier is not None:
        record.repeats(earlier.id)
        raise not_kept(earlier)


def _check_named(key: Key | None, named: Named) -> None:
    if key is not None and key.models:
        check_model(key, (named.model or "",))


async def _aim(ours: Services, key: Key | None) -> Aim:
    """Where to; raises ModelDisabled, which says how to enable it."""
    target = ours.passthrough
    if target is None:
        raise ModelDisabled(
            "This server upscales, and passes no other image request on. To have it do so, give it "
            "the key of the hosted gateway (LUMENFALL_API_KEY), or the address of an "
            "OpenAI-compatible server of the house (UPSCALE_PASSTHROUGH_BASE_URL)."
        )
    aim = Aim(target, await target.in_house())
    if key is not None and key.local_only and not aim.of_house:
        raise ModelDisabled(
            "What this key sends stays in the house, and the server would pass this request on to "
            f"{target.name}."
        )
    return aim
