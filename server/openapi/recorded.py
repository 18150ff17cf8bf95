"""Shapes of what the server remembers: keys, and requests with what became of them."""

from __future__ import annotations

from typing import Any

from upscale.server.openapi.shapes import (
    MAYBE_NUMBER,
    MAYBE_TEXT,
    MAYBE_WHOLE,
    TEXT,
    TEXTS,
    TRUTH,
    WHOLE,
    listed,
    ref,
    thing,
)
from upscale.server.records.rows import ENDED, UNFINISHED

_CURRENCY = {"type": "string", "const": "usd"}
_TIME = {"type": "string", "format": "date-time", "description": "UTC, with milliseconds."}
_MAYBE_TIME = {"type": ["string", "null"], "format": "date-time"}
_DOLLARS = {"type": "number", "minimum": 0, "description": "In dollars."}
STATUS = {"type": "string", "enum": [*UNFINISHED, *ENDED]}
REQUEST_ID = {"type": "string", "pattern": "^req_[0-9A-Za-z]{27}$"}
_REQUEST = {"type": "string", "const": "request"}

# As the list has it.
_LISTED = {
    "id": REQUEST_ID,
    "object": _REQUEST,
    "created_at": _TIME,
    "model": MAYBE_TEXT,
    "modality": TEXT,
    "endpoint": TEXT,
    "status": STATUS,
    "cost": {**_DOLLARS, "description": "What was booked, in dollars."},
    "currency": _CURRENCY,
    "duration_ms": {**MAYBE_WHOLE, "description": "From its arrival to its end."},
    "key_id": MAYBE_TEXT,
    "error_code": MAYBE_TEXT,
    "error_message": MAYBE_TEXT,
    "session_id": {**MAYBE_TEXT, "description": "The header x-session-id."},
    "trace_id": {**MAYBE_TEXT, "description": "The trace of the header traceparent."},
    "user": {**MAYBE_TEXT, "description": "The field of that name."},
    "request_size_bytes": MAYBE_WHOLE,
    "response_size_bytes": MAYBE_WHOLE,
}

_PROGRESS = thing(
    {
        "stage": TEXT,
        "tiles_done": {"type": "integer", "minimum": 0},
        "tiles_total": {"type": "integer", "minimum": 0},
        "megapixels_per_second": {**MAYBE_NUMBER, "description": "Of the result."},
        "fraction": {**MAYBE_NUMBER, "description": "At a remote provider that tells one: 0 to 1."},
        "seconds_left": MAYBE_NUMBER,
    },
    # A remote provider has no tiles of ours.
    "tiles_done",
    "tiles_total",
    "megapixels_per_second",
    "fraction",
)

_ONE = {
    **_LISTED,
    "background": TRUTH,
    "position": {**MAYBE_WHOLE, "description": "Jobs that run before it, while it waits."},
    "progress": {"anyOf": [ref("Progress"), {"type": "null"}]},
    "expected_seconds": {**MAYBE_NUMBER, "description": "How long its work takes."},
    "expected_end": {**_MAYBE_TIME, "description": "An estimate; null until it can be told."},
    "attempts": {
        **WHOLE,
        "minimum": 0,
        "description": "How often a background job was begun; 2 after a server died over it.",
    },
    "sent_to": {**MAYBE_TEXT, "description": "Who got the picture outside of the house."},
    "sent_bytes": {**WHOLE, "minimum": 0, "description": "How many bytes of it."},
    "remote_attempts": {
        "type": "array",
        "items": {"type": "object"},
        "description": "What was tried at which remote provider, in order: `provider`, `endpoint`, "
        "`started` (Unix seconds), `seconds`, `sent_to`, `billed` (no, maybe or yes), and where it "
        "failed `error` and `message`.",
    },
    "response": {
        "description": "The reply of the edit, once there is one and until it is purged. A file in "
        "base64 is filled in by GET, and null elsewhere.",
        "anyOf": [ref("KeptResult"), {"type": "null"}],
    },
}

_STATE = thing(
    {
        "status": STATUS,
        "attempt": {**WHOLE, "description": "The how-manieth it is."},
        "position": {**MAYBE_WHOLE, "description": "Jobs that run before it."},
    },
    "attempt",
    "position",
)

_EVENT = thing(
    {
        "id": {**TEXT, "description": "For Last-Event-ID; `end` is that of the last one."},
        "event": {"type": "string", "enum": ["state", "progress"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [ref("Request"), ref("Progress"), _STATE]},
        },
    },
    "id",
)

_PAGE_LINK = {"type": ["string", "null"], "format": "uri"}

RECORDED: dict[str, dict[str, Any]] = {
    "Balance": thing(
        {
            "object": {"type": "string", "const": "balance"},
            "billing_type": {"type": "string", "enum": ["prepaid", "postpaid"]},
            "available": {
                "description": "What the key may still spend; null: no limit.",
                "anyOf": [thing({"amount": _DOLLARS, "currency": _CURRENCY}), {"type": "null"}],
            },
        }
    ),
    "Key": thing(
        {
            "id": TEXT,
            "object": {"type": "string", "const": "key"},
            "name": TEXT,
            "prefix": {"type": "string", "description": "How its token begins."},
            "status": {"type": "string", "enum": ["active", "expired", "revoked"]},
            "created_at": _TIME,
            "expires_at": _MAYBE_TIME,
            "revoked_at": _MAYBE_TIME,
            "requests_per_minute": MAYBE_NUMBER,
            "megapixels_per_minute": MAYBE_NUMBER,
            "priority": WHOLE,
            "models": {**TEXTS, "description": "Those it may use; none: all."},
            "remote": TRUTH,
            "spending_limit": {**MAYBE_NUMBER, "description": "In dollars; null: none."},
            "spent": _DOLLARS,
            "reserved": {**_DOLLARS, "description": "For requests at work, in dollars."},
            "currency": _CURRENCY,
        }
    ),
    "Keys": listed(ref("Key")),
    "ListedRequest": thing(_LISTED),
    "Request": thing(_ONE),
    "Progress": _PROGRESS,
    "Event": _EVENT,
    "Requests": thing(
        {
            "object": {"type": "string", "const": "list"},
            "data": {"type": "array", "items": ref("ListedRequest"), "maxItems": 100},
            "next_page_url": {**_PAGE_LINK, "description": "Older ones."},
            "previous_page_url": {**_PAGE_LINK, "description": "Newer ones."},
            "summary": thing(
                {
                    "total_requests": WHOLE,
                    "by_status": thing(dict.fromkeys(STATUS["enum"], WHOLE)),
                    "total_cost": _DOLLARS,
                    "currency": _CURRENCY,
                    "average_duration_ms": {
                        **MAYBE_WHOLE,
                        "description": "Of completed ones.",
                    },
                },
                description="Over all that the filters choose, whatever the page.",
            ),
        },
        "summary",
    ),
    "Purged": thing(
        {
            "id": REQUEST_ID,
            "object": _REQUEST,
            "purged": {"type": "boolean", "const": True},
            "already_purged": TRUTH,
            "media_deleted": {"type": "integer", "minimum": 0},
        }
    ),
}
