"""The gateway's own paths: the balance, the key, and the requests that were made."""

from __future__ import annotations

import json
from typing import Any

from upscale.server.openapi.edits import PENDING, RESULT
from upscale.server.openapi.headers import ID
from upscale.server.openapi.operations import failures, json_of, reading, reply, sent, switch
from upscale.server.openapi.recorded import REQUEST_ID, STATUS
from upscale.server.records.paging import MOST

REQUESTS = "/v1/requests"
ONE_REQUEST = REQUESTS + "/{request_id}"

_KEY_ID = "key_4b1f2c9d7e60a8135fd2"

_BALANCE = {
    "object": "balance",
    "billing_type": "prepaid",
    "available": {"amount": 12.5, "currency": "usd"},
}

_KEY: dict[str, Any] = {
    "id": _KEY_ID,
    "object": "key",
    "name": "scanner",
    "prefix": "upk_hQ3x",
    "status": "active",
    "created_at": "2026-11-25T13:31:05.042Z",
    "expires_at": None,
    "revoked_at": None,
    "requests_per_minute": 60.0,
    "megapixels_per_minute": None,
    "priority": 0,
    "models": [],
    "remote": True,
    "spending_limit": 20.0,
    "spent": 7.45,
    "reserved": 0.05,
    "currency": "usd",
}

_COMPLETED: dict[str, Any] = {
    **PENDING,
    "status": "completed",
    "duration_ms": 5210,
    "response_size_bytes": 2193,
    "position": None,
    "progress": None,
    "expected_end": None,
    "attempts": 1,
    "response": RESULT,
}
_PROGRESS = {
    "stage": "upscale",
    "tiles_done": 3,
    "tiles_total": 9,
    "megapixels_per_second": 0.4,
    "seconds_left": 4.0,
}
_PROCESSING: dict[str, Any] = {
    **PENDING,
    "status": "processing",
    "position": None,
    "progress": _PROGRESS,
    "expected_end": "2026-11-25T13:31:10.042Z",
    "attempts": 1,
}
_CANCELLED: dict[str, Any] = {
    **_COMPLETED,
    "status": "cancelled",
    "duration_ms": 1340,
    "error_code": "REQUEST_CANCELLED",
    "error_message": "The request was cancelled.",
    "response_size_bytes": None,
    "response": None,
}

_OF_ONE_ALONE = (
    "background",
    "position",
    "progress",
    "sent_to",
    "sent_bytes",
    "remote_attempts",
    "expected_seconds",
    "expected_end",
    "attempts",
    "response",
)
_LISTED = {name: value for name, value in _COMPLETED.items() if name not in _OF_ONE_ALONE}
_PAGE: dict[str, Any] = {
    "object": "list",
    "data": [_LISTED],
    "next_page_url": f"http://127.0.0.1:8000{REQUESTS}?limit=1&starting_after={ID}",
    "previous_page_url": None,
}
_SUMMARY = {
    "total_requests": 41,
    "by_status": {**dict.fromkeys(STATUS["enum"], 0), "completed": 40, "rejected": 1},
    "total_cost": 2.0,
    "currency": "usd",
    "average_duration_ms": 5120,
}


def _event(kind: str, data: dict[str, Any], number: str) -> dict[str, Any]:
    return {"id": number, "event": kind, "data": json.dumps(data, separators=(",", ":"))}


_EVENTS = {
    "it waits": {
        "event": "state",
        "data": '{"status":"pending","position":2}',
    },
    "it is begun": _event("state", {"status": "processing", "attempt": 1}, "9f86d081.2"),
    "progress": _event("progress", _PROGRESS, "9f86d081.3"),
    "the last one": _event("state", _COMPLETED, "end"),
}

_WATCHING = """\
Server-sent events: `state` when the request waits, is begun and has ended, `progress` at most \
twice a second. The last one has the id `end` and holds the whole request object; then the stream \
ends. Who was cut off sends the last id that he saw as `Last-Event-ID`, as browsers do by \
themselves, and gets what followed it; after `end` there is nothing, 204. A stream that ends \
without `end` was that of a server which shuts down: come back."""

_CANCELLING = """\
Ends a request that waits or is at work, within a tile; nothing is booked for it. The caller who \
waits for its reply gets 499. One that has ended stays as it is, and is answered."""


def _query(name: str, description: str, example: Any, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }


_CURSOR = "Not together with the other cursor."
_TIME = "A time in ISO 8601, UTC where it names no zone, or Unix seconds."

_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "description": "The x-request-id of the edit's reply.",
    "schema": {"type": "string"},
    "example": ID,
}

_WATCH = reading(
    "watchRequest",
    "Watch a request: its states and progress, as they come",
    {
        "200": reply(
            "Events until the request has ended",
            {
                "text/event-stream": {
                    # Of each event, as is usual before OpenAPI 3.2.
                    "schema": {"$ref": "#/components/schemas/Event"},
                    "examples": {name: {"value": v} for name, v in _EVENTS.items()},
                }
            },
            ("Cache-Control", "X-Accel-Buffering"),
        ),
        "204": reply("All was seen already"),
    },
    401,
    404,
    429,
    parameters=(_ID, sent("Last-Event-ID", "The last event that was seen.", "9f86d081.2")),
    only_get=("429",),
)

PATHS: dict[str, dict[str, Any]] = {
    "/v1/balance": reading(
        "getBalance",
        "What the key may still spend",
        {
            "200": reply(
                "postpaid, and null, without a limit",
                json_of(
                    "Balance",
                    a_limit=_BALANCE,
                    no_limit={**_BALANCE, "billing_type": "postpaid", "available": None},
                ),
            )
        },
        401,
    ),
    "/v1/keys": reading(
        "listKeys",
        "The key that the request came with; others are the operator's to see",
        {
            "200": reply(
                "One key, or none where none is asked for",
                json_of("Keys", one={"object": "list", "data": [_KEY]}),
            )
        },
        401,
    ),
    REQUESTS: reading(
        "listRequests",
        "The key's requests, the newest first",
        {
            "200": reply(
                "A page of them",
                json_of("Requests", a_page=_PAGE, with_sums={**_PAGE, "summary": _SUMMARY}),
            )
        },
        401,
        parameters=(
            _query("limit", "How many.", 20, type="integer", minimum=1, maximum=MOST, default=20),
            _query("starting_after", f"Those older than this one. {_CURSOR}", ID, **REQUEST_ID),
            _query("ending_before", f"Those newer than this one. {_CURSOR}", ID, **REQUEST_ID),
            _query("created_after", _TIME, "2026-11-25T00:00:00Z"),
            _query("created_before", _TIME, "1795651199"),
            _query("key_id", "Those of this key; a key sees its own alone.", _KEY_ID),
            _query("status", "Those in this state.", "completed", **STATUS),
            switch("summary", "Sums over all that the filters choose, too.", bare=True),
        ),
    ),
    ONE_REQUEST: {
        **reading(
            "getRequest",
            "A request: its state and progress, its reply once there is one",
            {
                "200": reply(
                    "The request",
                    json_of("Request", completed=_COMPLETED, at_work=_PROCESSING, waiting=PENDING),
                )
            },
            401,
            404,
            parameters=(_ID,),
        ),
        "delete": {
            "operationId": "cancelRequest",
            "summary": "Cancel a request",
            "description": _CANCELLING,
            "parameters": [_ID],
            "responses": {
                "200": reply("The request as it is now", json_of("Request", cancelled=_CANCELLED)),
                **failures(401, 404),
            },
        },
    },
    f"{ONE_REQUEST}/events": {
        **_WATCH,
        "get": {**_WATCH["get"], "description": _WATCHING},
    },
    f"{ONE_REQUEST}/payloads": {
        "delete": {
            "operationId": "purgeRequest",
            "summary": "Delete what a request has stored: its reply and its results",
            "description": "The record stays, without them. While the request is at work: 400, "
            "cancel it first. Again changes nothing.",
            "parameters": [_ID],
            "responses": {
                "200": reply(
                    "What was deleted",
                    json_of(
                        "Purged",
                        first={
                            "id": ID,
                            "object": "request",
                            "purged": True,
                            "already_purged": False,
                            "media_deleted": 1,
                        },
                        again={
                            "id": ID,
                            "object": "request",
                            "purged": True,
                            "already_purged": True,
                            "media_deleted": 0,
                        },
                    ),
                ),
                **failures(401, 404),
            },
        }
    },
}
