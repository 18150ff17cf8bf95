"""How an operation is put together: its replies, its failures, HEAD beside GET, yes-or-no queries.

Failures are the errors themselves, by status: what a reply looks like is what `errors` makes of it.
"""

from __future__ import annotations

from typing import Any

from upscale.errors import (
    AllProvidersExhausted,
    AuthenticationFailed,
    Draining,
    InsufficientBalance,
    InvalidParameter,
    InvalidRequest,
    JobCancelled,
    MediaFull,
    MethodNotAllowed,
    ModelDisabled,
    ModelNotFound,
    NotFound,
    QueueFull,
    RateLimited,
    RecordsFault,
    ServerFault,
    TooLarge,
    UnreadableImage,
    UnsupportedMediaType,
    UpscaleError,
    UpstreamError,
)
from upscale.server.errors import error_body, of_status
from upscale.server.openapi.headers import named

# What any route may answer.
EVERYWHERE = (400, 405, 500, 503)

_TRIED = {
    "provider": "fal",
    "endpoint": "fal-ai/esrgan",
    "started": 1795591222.5,
    "seconds": 4.2,
    "sent_to": [],
    "error": "unreachable",
    "message": "it cannot be reached.",
    "billed": "no",
}

# One of each; `docs/api.md` says when.
ERRORS: tuple[UpscaleError, ...] = (
    InvalidParameter("scale_factor", "99", "a number from 1 to 16"),
    UnreadableImage("The image is broken: it ends too early."),
    InvalidRequest("This server does not answer to the host name of this request."),
    AuthenticationFailed(),
    InsufficientBalance(required=50_000, available=12_000),
    ModelNotFound("real-esrgam", "real-esrgan"),
    ModelDisabled(
        "No installed network serves the model 'aura-sr'. Install a file of your own: "
        "upscale weights import FILE --as aura-sr."
    ),
    NotFound("There is nothing at /nope."),
    MethodNotAllowed("PUT is not allowed at /openai/v1/models."),
    TooLarge("The image", got=100_000_000, limit=67_108_864, unit="pixels"),
    UnsupportedMediaType("Content-Type is text/plain."),
    QueueFull("16 jobs are waiting, about 90 s of work. Try again later.", retry_after=6),
    RateLimited("This key may use 60 requests a minute, and has.", retry_after=3),
    JobCancelled("The request was cancelled."),
    ServerFault("Something unexpected went wrong. The server's log has the details."),
    AllProvidersExhausted(
        "No provider could serve the request. fal: it cannot be reached.", attempts=[_TRIED]
    ),
    UpstreamError(
        "fal: the result cannot be used: it is 512 x 512. It was billed.", reason="bad_result"
    ),
    UpstreamError(
        "fal: no answer in time. It may have been billed.",
        status=504,
        reason="deadline",
        attempts=[{**_TRIED, "error": "deadline", "billed": "maybe"}],
    ),
    Draining("The server is shutting down; try again in a minute."),
    RecordsFault("The records cannot be read or written: the disk is full. Try again later."),
    MediaFull(size=52_428_800, quota=41_943_040),
)

# What each status means, and the headers that it has beside those of every reply.
FAILURES: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("The request is wrong; `param` names the field to blame", ("x-should-retry",)),
    401: (
        "Keys are asked for here, and none came, or one that is unknown, revoked or expired",
        ("WWW-Authenticate", "x-should-retry"),
    ),
    402: ("The price is above what the key may still spend", ("x-should-retry",)),
    404: (
        "No such path, model, link or request, or nothing here serves the model",
        ("x-should-retry",),
    ),
    405: ("The path does not have that method", ("Allow", "x-should-retry")),
    412: (
        "It is not the file that If-Match or If-Unmodified-Since asks for",
        ("ETag", "x-should-retry"),
    ),
    413: ("The body, the image or the result is over a limit", ("x-should-retry",)),
    415: ("The body is of a content type that is not taken", ("x-should-retry",)),
    416: ("The range lies beyond the end of the file", ("Content-Range", "x-should-retry")),
    429: (
        "The queue, the folder for uploads or the number of event streams is full, or the key has "
        "used its minute",
        ("Retry-After",),
    ),
    499: ("Somebody cancelled the request meanwhile", ("x-should-retry",)),
    500: ("The server failed; its log has the details", ("x-should-retry",)),
    502: ("No remote provider could serve it, or one has failed", ("x-should-retry",)),
    503: ("The server is shutting down (Retry-After is there), or cannot use its records", ()),
    504: ("A remote provider has not answered in time", ("x-should-retry",)),
    507: ("The result does not fit the space for results", ("x-should-retry",)),
}


def failure(status: int) -> dict[str, Any]:
    """The reply of that status, with an example of each of its errors."""
    description, headers = FAILURES[status]
    fitting = [error for error in ERRORS if error.status == status]
    # Those that a library decides on have no class of their own.
    fitting = fitting or [of_status(status, "GET", "/media/…")]
    schema = {"$ref": "#/components/schemas/Error"}
    examples = {type(error).__name__: {"value": error_body(error)} for error in fitting}
    return {
        "description": description,
        "headers": named(*headers),
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def failures(*statuses: int) -> dict[str, Any]:
    """References to those failures, and to the ones of every route."""
    every = sorted({*statuses, *EVERYWHERE})
    return {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in every}


def reply(
    description: str, content: dict[str, Any] | None = None, headers: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A reply that is no failure; `headers` beside those of every reply."""
    told = {"description": description, "headers": named(*headers)}
    return told if content is None else {**told, "content": content}


def json_of(schema: str, **examples: Any) -> dict[str, Any]:
    """JSON of that schema; the names of examples have underscores for blanks."""
    return {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{schema}"},
            "examples": {name.replace("_", " "): {"value": v} for name, v in examples.items()},
        }
    }


def reading(
    identity: str,
    summary: str,
    replies: dict[str, dict[str, Any]],
    *statuses: int,
    parameters: tuple[dict[str, Any], ...] = (),
    only_get: tuple[str, ...] = (),
) -> dict[str, Any]:
    """GET and HEAD of a path: `replies` by status, and the failures of those `statuses`.

    HEAD answers the same without bodies; `only_get` names statuses and parameters that it lacks.
    """
    get = {
        "operationId": identity,
        "summary": summary,
        "parameters": [*parameters],
        "responses": {**replies, **failures(*statuses)},
    }
    failing = {str(status): failure(status) for status in sorted({*statuses, *EVERYWHERE})}
    head = {
        "operationId": f"{identity}Head",
        "summary": f"{summary}: the headers alone",
        "parameters": [each for each in parameters if each["name"] not in only_get],
        "responses": {
            status: {"description": told["description"], "headers": told["headers"]}
            for status, told in {**replies, **failing}.items()
            if status not in only_get
        },
    }
    return {"get": get, "head": head}


def public(*args: Any, **more: Any) -> dict[str, Any]:
    """`reading` of what is for everybody, without a key."""
    return {method: {**told, "security": []} for method, told in reading(*args, **more).items()}


def switch(name: str, description: str, *, bare: bool = False) -> dict[str, Any]:
    """A query parameter that says yes or no in many spellings; `bare`: without a value too."""
    words = ["true", "1", "yes", "on", "y", "t", "false", "0", "no", "off", "n", "f"]
    spellings = {"type": "string", "enum": [*words, ""] if bare else words}
    return {
        "name": name,
        "in": "query",
        "description": description,
        "allowEmptyValue": bare,
        "schema": {"anyOf": [{"type": "boolean"}, spellings], "default": False},
    }


def sent(name: str, description: str, example: str, **schema: Any) -> dict[str, Any]:
    """A header of the request."""
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", **schema},
        "example": example,
    }
