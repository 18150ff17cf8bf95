"""`POST /openai/v1/images/edits`: what goes in, in three encodings, and what comes out."""

from __future__ import annotations

from typing import Any

from upscale.server.openapi.headers import ID
from upscale.server.openapi.operations import failures, json_of, reply, sent, switch

EDITS = "/openai/v1/images/edits"

# 8 x 8 pixels of grey.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADklEQVR42mNogA"
    "IGyhgAgIQgARDoahcAAAAASUVORK5CYII="
)

RESULT: dict[str, Any] = {
    "created": 1795591222,
    "size": "32x32",
    "data": [{"url": "http://127.0.0.1:8000/media/0GeKauzqKTBQozIa2SvxEwAPOVx.png"}],
    "metadata": {
        "model": "bundled-x4",
        "executed_model": "local/bundled-x4",
        "provider": "local",
        "provider_name": "Local",
        "cost": 0.0,
        "cost_currency": "USD",
        "receipt": {"precision": "fp32", "tiles": {"planned": 1, "done": 1}, "seconds": {}},
    },
}

# A background job that was accepted this moment.
PENDING: dict[str, Any] = {
    "id": ID,
    "object": "request",
    "created_at": "2026-11-25T13:31:05.042Z",
    "model": "bundled-x4",
    "modality": "image",
    "endpoint": EDITS,
    "status": "pending",
    "cost": 0.0,
    "currency": "usd",
    "duration_ms": None,
    "key_id": None,
    "error_code": None,
    "error_message": None,
    "session_id": "scan-7",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "user": None,
    "request_size_bytes": 84210,
    "response_size_bytes": None,
    "background": True,
    "position": 0,
    "progress": None,
    "expected_seconds": 5.0,
    "expected_end": "2026-11-25T13:31:10.042Z",
    "sent_to": None,
    "sent_bytes": 0,
    "remote_attempts": [],
    "attempts": 0,
    "response": None,
}

_COMPONENT = {
    "type": "output",
    "metric": "image",
    "quantity": 1,
    "billable_quantity": 1,
    "unit_price": 0.0,
    "total_cost": 0,
}

_DRY_RUN: dict[str, Any] = {
    "estimated": True,
    "model": "bundled-x4",
    "provider": "local",
    "total_cost_micros": 0,
    "currency": "USD",
    "components": [_COMPONENT],
    "plan": {
        "size": "32x32",
        "precision": "fp32",
        "tiles": 1,
        "expected_seconds": 0.1,
        "expected_bytes": 480000000,
    },
}

_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_DRY = "Check, plan and price it, do nothing. In any case of letters; a yes without a value too."
_OTHER = "Another spelling of dryRun; a yes in any of them is enough."

_DESCRIPTION = """\
One image, as a file, a URL, a data URI or a media link of this server, under any of the names \
that the schema lists (`image[0]` is `image[]`). Parts and members come in any order; numbers and \
booleans may be written as text; an empty text counts as absent. `prompt`, `mask`, `size`, \
`aspect_ratio`, `quality`, `style` and unknown fields are accepted and ignored; `stream=true` is \
refused. With `dryRun=true` everything is checked, planned and priced, and nothing is done.

With `Prefer: respond-async` or `background=true` the reply is a request object, 202; the work is \
done whatever becomes of the connection and of the server, and `GET /v1/requests/{id}` has the \
result. Without, what cannot be there before the caller stops waiting is refused."""


def _taken(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": {"$ref": f"#/components/schemas/{schema}"},
        "examples": {name: {"value": {"model": "bundled-x4", **v}} for name, v in examples.items()},
    }


_REPEAT = """\
A name of yours for this request, new for each. Sent again with the same body, it is answered with \
the first one's reply, or with its request object, and nothing is done twice; with another body: \
400. Free again where nothing came of the first one but an error in its reply, and no remote \
provider may have been paid for it."""

_HEADERS = (
    sent("Prefer", "respond-async: as `background=true`. Others are ignored.", "respond-async"),
    sent("Idempotency-Key", _REPEAT, "scan-7-page-12", maxLength=255),
    sent("traceparent", "W3C Trace Context; the record keeps the trace's id.", _TRACE),
    sent(
        "x-session-id", "A name of yours for what belongs together; kept in the record.", "scan-7"
    ),
    sent(
        "x-stainless-read-timeout",
        "How many seconds the caller waits for the reply; the SDKs say so by themselves.",
        "600",
    ),
)

_BODIES = {
    "multipart/form-data": _taken(
        "EditForm", {"a file": {"image": "@examples/sample.png", "scale_factor": 2}}
    ),
    "application/json": _taken(
        "Edit",
        {
            "a data URI": {"image": PICTURE, "scale_factor": 4},
            "a width": {"image": PICTURE, "target_width": 20},
            "later": {"image": PICTURE, "background": True, "user": "ada"},
            "the file in the reply": {
                "images": [{"image_url": PICTURE}],
                "response_format": "b64_json",
                "output_format": "webp",
            },
        },
    ),
    "application/x-www-form-urlencoded": _taken(
        "EditFields", {"a data URI": {"image_url": PICTURE, "scale_factor": 2}}
    ),
}


_URL = "http://127.0.0.1:8000" + EDITS
_LATER = f"curl {_URL} -H 'Prefer: respond-async' -H 'Idempotency-Key: page-12'"
_SAMPLE = "-F model=bundled-x4 -F image=@examples/sample.png"

PATHS = {
    EDITS: {
        "post": {
            "operationId": "editImage",
            "summary": "Upscale an image",
            "description": _DESCRIPTION,
            "parameters": [
                switch("dryRun", _DRY, bare=True),
                switch("dry_run", _OTHER, bare=True),
                switch("dry-run", _OTHER, bare=True),
                *_HEADERS,
            ],
            "requestBody": {"required": True, "content": _BODIES},
            "responses": {
                "200": reply(
                    "The result, or what a run would cost",
                    {
                        "application/json": {
                            "schema": {
                                "anyOf": [
                                    {"$ref": "#/components/schemas/Result"},
                                    {"$ref": "#/components/schemas/DryRun"},
                                ]
                            },
                            "examples": {
                                "a result": {"value": RESULT},
                                "a dry run": {"value": _DRY_RUN},
                            },
                        }
                    },
                ),
                "202": reply(
                    "Accepted: a request object, to be asked for again",
                    json_of("Request", accepted=PENDING),
                    ("Location", "Preference-Applied"),
                ),
                **failures(401, 402, 404, 413, 415, 429, 499, 502, 504, 507),
            },
            "x-codeSamples": [
                {"lang": "shell", "source": f"{_LATER} {_SAMPLE}"},
                {"lang": "shell", "source": f"curl {_URL} {_SAMPLE} -F scale_factor=2"},
                {
                    "lang": "shell",
                    "source": f"curl '{_URL}?dryRun=true' {_SAMPLE} -F target_megapixels=2",
                },
            ],
        }
    }
}
