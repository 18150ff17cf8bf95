"""Headers of replies, each described once; replies refer to them by name."""

from __future__ import annotations

from typing import Any

ID = "req_2Nf3kQb7ZJvYw0cXr5HtLm9PaSd"

# On every reply.
STAMPS = ("x-request-id", "X-Lumenfall-Request-Id", "X-Lumenfall-Provider", "X-Lumenfall-Model")


def named(*names: str) -> dict[str, Any]:
    """References to headers, those of every reply first."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*STAMPS, *names)}


def _header(description: str, *examples: Any, **schema: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": description,
        "required": True,
        "schema": {"type": "string", **schema},
    }
    if len(examples) == 1:
        return {**described, "example": examples[0]}
    return {**described, "examples": {str(value): {"value": value} for value in examples}}


_ID = {"pattern": "^req_[0-9A-Za-z]{27}$"}

HEADERS: dict[str, dict[str, Any]] = {
    "x-request-id": _header("The request's id, which the server's log has too.", ID, **_ID),
    "X-Lumenfall-Request-Id": _header("The same as x-request-id.", ID, **_ID),
    "X-Lumenfall-Provider": _header("Who ran it; none where nothing was chosen.", "local", "none"),
    "X-Lumenfall-Model": _header(
        "What ran; none where nothing was chosen.", "local/bundled-x4", "none"
    ),
    "x-should-retry": _header(
        "Whether to send the same request again; the SDKs obey it. Absent where they decide.",
        "false",
        enum=["true", "false"],
    ),
    "Retry-After": _header(
        "Seconds to wait before the next try.", 6, type="integer", minimum=1, maximum=60
    ),
    "WWW-Authenticate": _header("How to say who calls.", "Bearer", enum=["Bearer"]),
    "Location": _header("Where to ask for the result.", f"/v1/requests/{ID}"),
    "Preference-Applied": _header(
        "The reply is a request object, not a result.", "respond-async", enum=["respond-async"]
    ),
    "X-Accel-Buffering": _header("Proxies send events on at once.", "no", enum=["no"]),
    "Allow": _header("The methods that the path has.", "GET, HEAD"),
    "ETag": _header("The file's tag, a strong one; it never changes.", '"3f5d0c"'),
    "Last-Modified": _header("When the result was made.", "Wed, 21 Oct 2026 07:28:00 GMT"),
    "Cache-Control": _header(
        "How long it may be kept: the seconds that a link has left, events not at all.",
        "private, max-age=3540",
        "no-store",
    ),
    "Accept-Ranges": _header("The unit of Range.", "bytes", enum=["bytes"]),
    "Content-Length": _header(
        "The bytes of the body that GET has.", 1048576, type="integer", minimum=0
    ),
    "Content-Range": _header(
        "What is sent of how many bytes; `*` where the range lies beyond the end.",
        "bytes 0-1023/1048576",
        "bytes */1048576",
        pattern=r"^bytes (\d+-\d+|\*)/\d+$",
    ),
    "Content-Disposition": _header(
        "The name under which a browser saves it.",
        'inline; filename="upscaled-20261021-072800.png"',
    ),
    "X-Content-Type-Options": _header("The content type is right.", "nosniff", enum=["nosniff"]),
}
