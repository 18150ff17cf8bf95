"""The gateway's own paths under `/v1`: balance, keys, and the requests that were made, with what
became of them.

A key sees what is its own; where keys are not asked for, everybody on this machine sees what
nobody's is, and strangers those requests whose ids they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale.errors import AuthenticationFailed, InvalidParameter, NotFound
from upscale.models.quote import MICROS
from upscale.server.access import caller, is_stranger
from upscale.server.events import event_stream
from upscale.server.parameters import is_true
from upscale.server.records.paging import MOST, Chosen, Page, Summary
from upscale.server.records.rows import ENDED, UNFINISHED, Row, Status, to_public
from upscale.server.records.times import read_time
from upscale.server.repeats import kept_reply
from upscale.server.services import Services, base_url, services
from upscale.server.shown import position_of, request_body
from upscale.server.threads import asked, whole

router = APIRouter()

_READ = ["GET", "HEAD"]
_LIST = "/v1/requests"
_ONE = _LIST + "/{request_id}"


@router.api_route("/v1/balance", methods=_READ, response_model=None)
async def balance(request: Request) -> Response:
    """What the key may still spend."""
    key = caller(request)
    left = None if key is None else key.available_micros
    return JSONResponse(
        {
            "object": "balance",
            "billing_type": "postpaid" if left is None else "prepaid",
            "available": None if left is None else {"amount": left / MICROS, "currency": "usd"},
        }
    )


@router.api_route("/v1/keys", methods=_READ, response_model=None)
async def keys(request: Request) -> Response:
    """The caller's own key: who holds it has no business with others'."""
    key = caller(request)
    return JSONResponse({"object": "list", "data": [] if key is None else [key.to_public()]})


@router.api_route(_LIST, methods=_READ, response_model=None)
async def list_requests(request: Request) -> Response:
    """Requests, newest first, a page at a time; with `summary=true` sums over all chosen."""
    ours, query = services(request), request.query_params
    if is_stranger(request):
        raise AuthenticationFailed(
            "Requests are listed for callers with a key. Without one, ask for a request by its id."
        )
    for name, value in query.multi_items():
        if "\0" in value:  # which no database takes
            raise InvalidParameter(name, value, "text without NUL")
    chosen = Chosen(
        caller=_caller(request),
        key_id=query.get("key_id") or None,
        status=_status(query.get("status")),
        created_after=_time(request, "created_after"),
        created_before=_time(request, "created_before"),
    )
    page = await asked(
        lambda: ours.recorder.log.page(
            chosen,
            limit=_limit(query.get("limit")),
            starting_after=query.get("starting_after") or None,
            ending_before=query.get("ending_before") or None,
        )
    )
    body: dict[str, Any] = {
        "object": "list",
        "data": [to_public(row) for row in page.rows],
        **_links(request, ours, page),
    }
    if is_true(query, "summary", bare=True):
        summary = await asked(ours.recorder.log.summary, chosen)
        body["summary"] = _summary(summary)
    return JSONResponse(body)


@router.api_route(_ONE, methods=[*_READ, "DELETE"], response_model=None)
async def one_request(request: Request, request_id: str) -> Response:
    """See or cancel one request. One route, so that `Allow` names all that its path can do."""
    answer = _cancel if request.method == "DELETE" else _show
    return await answer(request, request_id)


async def _show(request: Request, request_id: str) -> Response:
    """Its state and progress, and the normal reply once it is done."""
    ours = services(request)
    row = await _own(request, request_id)
    body = request_body(ours, row, await position_of(ours, row))
    if request.method == "HEAD":
        return JSONResponse(body)
    with ours.spool.request_folder() as folder, contextlib.suppress(NotFound):
        return await kept_reply(ours, row, body, folder)
    return JSONResponse(body)  # its file has expired


async def _cancel(request: Request, request_id: str) -> Response:
    """Cancel it within a tile; one that has ended stays as it is."""
    ours = services(request)
    row = await _own(request, request_id)
    if not row.ended:
        await ours.background.cancel(row)
        row = await _own(request, request_id)
    return JSONResponse(request_body(ours, row))


@router.api_route(_ONE + "/events", methods=_READ, response_model=None)
async def watch_request(request: Request, request_id: str) -> Response:
    """Its states and progress as server-sent events, which go on after `Last-Event-ID`."""
    row = await _own(request, request_id)
    stream = event_stream(services(request), row, request.headers.get("last-event-id", ""))
    if request.method == "HEAD":  # which has no body to wait for
        head = Response(status_code=stream.status_code, headers=dict(stream.headers))
        del head.headers["content-length"]
        return head
    return stream


@router.delete(_ONE + "/payloads", response_model=None)
async def purge_request(request: Request, request_id: str) -> Response:
    """Delete what a request has stored; again changes nothing."""
    ours = services(request)
    await _own(request, request_id)
    left = await whole(lambda: ours.recorder.log.purge(request_id))
    if left is None:
        raise _unknown(request_id)
    deleted = [await asyncio.to_thread(ours.media.discard, name) for name in left.media]
    return JSONResponse(
        {
            "id": request_id,
            "object": "request",
            "purged": True,
            "already_purged": left.already,
            "media_deleted": sum(deleted),
        }
    )


def _caller(request: Request) -> str:
    key = caller(request)
    return "" if key is None else key.id


async def _own(request: Request, request_id: str) -> Row:
    """The request of that id, if it is the caller's. Raises NotFound."""
    ours = services(request)
    row = None if "\0" in request_id else await asked(ours.recorder.log.get, request_id)
    if row is None or row.caller != _caller(request):
        raise _unknown(request_id)
    return row


def _unknown(request_id: str) -> NotFound:
    return NotFound(f"There is no request '{request_id[:100]}'.", field="id")


def _links(request: Request, ours: Services, page: Page) -> dict[str, str | None]:
    """Where the pages beside this one are."""
    cursors = ("starting_after", "ending_before")
    kept = [(k, v) for k, v in request.query_params.multi_items() if k not in cursors]

    def link(cursor: str, row: Row) -> str:
        query = urlencode([*kept, (cursor, row.id)])
        return f"{base_url(request, ours.settings)}{_LIST}?{query}"

    rows = page.rows
    return {
        "next_page_url": link("starting_after", rows[-1]) if rows and page.older else None,
        "previous_page_url": link("ending_before", rows[0]) if rows and page.newer else None,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    mean = summary.mean_duration_ms
    return {
        "total_requests": summary.requests,
        "by_status": summary.statuses,
        "total_cost": summary.cost_micros / MICROS,
        "currency": "usd",
        "average_duration_ms": None if mean is None else round(mean),
    }


def _limit(text: str | None) -> int:
    if not text:
        return 20
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII):
        raise InvalidParameter("limit", text, f"a whole number from 1 to {MOST}")
    return int(text)


def _status(text: str | None) -> Status | None:
    found = [status for status in (*UNFINISHED, *ENDED) if status == text]
    if text and not found:
        raise InvalidParameter("status", text, ", ".join((*UNFINISHED, *ENDED)))
    return found[0] if found else None


def _time(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    return read_time(name, text) if text else None
