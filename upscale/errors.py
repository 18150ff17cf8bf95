"""The one error tree. Whatever crosses a room's border is one of these.

    UpscaleError                     status code                     type
    ├── InvalidRequest               400    INVALID_REQUEST          invalid_request_error
    │   ├── InvalidParameter         400    (names the field, what came, what is allowed)
    │   ├── UnreadableImage          400    (the file is broken or of a kind we do not open)
    │   ├── TooLarge                 413    (bytes, pixels or sides over a limit)
    │   ├── NotFound                 404    (a path or a media link)
    │   ├── MethodNotAllowed         405
    │   ├── UnsupportedMediaType     415
    │   └── CheckpointError          400    (a weights file that cannot be used)
    ├── AuthenticationFailed         401    AUTHENTICATION_FAILED    authentication_error
    ├── InsufficientBalance          402    INSUFFICIENT_BALANCE     insufficient_quota
    ├── ModelNotFound                404    MODEL_NOT_FOUND          invalid_request_error
    ├── ModelDisabled                404    MODEL_DISABLED           invalid_request_error
    ├── RateLimited                  429    RATE_LIMITED             rate_limit_error
    │   ├── QueueFull                429    (the line in front of a device is full)
    │   └── SpoolFull                429    (uploads and results at work fill their folder)
    ├── JobCancelled                 499    REQUEST_CANCELLED        invalid_request_error
    ├── UpstreamError                varies UPSTREAM_ERROR           by the status
    ├── AllProvidersExhausted        502    ALL_PROVIDERS_EXHAUSTED  server_error
    └── ServerFault                  500    INTERNAL_ERROR           server_error
        ├── WorkerDied               500    (a device worker died twice on the same Job)
        ├── OutOfMemory              500    (even the smallest tile does not fit)
        ├── OutputFault              500    (the disk is full, the folder read-only)
        ├── MediaFull                507    (the result does not fit the quota of media)
        ├── PullFault                502    (a file of weights does not arrive, or another one does)
        ├── RecordsFault             503    (the database of records cannot be used)
        └── Draining                 503    (the server is shutting down)

Messages say what was wrong, what is allowed and what to do, in a sentence or two. `to_wire` and
`from_wire` carry an error over a pipe between processes without losing its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

# When another try is worth it where nothing better is known, in seconds.
_SOON = 5


class UpscaleError(Exception):
    """The root. `field` names the request parameter to blame, where one is.

    `retry` tells a client whether to try the same request again: False sends
    `x-should-retry: false`, None leaves it to the client's own rules. `retry_after` is in how many
    seconds, where that can be told.
    """

    status: int = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    type: str = "server_error"
    retry: ClassVar[bool | None] = None
    retry_after: int | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def to_wire(self) -> dict[str, Any]:
        """The error as plain data (JSON types only)."""
        facts = {k: v for k, v in vars(self).items() if k not in ("message", "field")}
        return {
            "class": type(self).__name__,
            "message": self.message,
            "field": self.field,
            "facts": facts,
        }

    @staticmethod
    def from_wire(data: dict[str, Any]) -> UpscaleError:
        """The error that `to_wire` described; an unknown class becomes a ServerFault."""
        cls = _CLASSES.get(str(data.get("class")), ServerFault)
        error = cls.__new__(cls)
        UpscaleError.__init__(error, str(data.get("message", "")), field=data.get("field"))
        error.__dict__.update(data.get("facts") or {})
        return error


class InvalidRequest(UpscaleError):
    """The request cannot be served as it stands."""

    status = 400
    code = "INVALID_REQUEST"
    type = "invalid_request_error"
    retry = False


class InvalidParameter(InvalidRequest):
    """One parameter is missing or out of range.

    Raised with the field's name, what came, and a phrase that tells what is allowed.
    """

    def __init__(self, field: str, got: object, allowed: str) -> None:
        shown = "missing" if got is None else f"{str(got)[:80]!r}"
        super().__init__(f"Invalid value for '{field}': {shown}. Allowed: {allowed}.", field=field)


class UnreadableImage(InvalidRequest):
    """The file is not a picture that we open, or it is broken."""

    def __init__(self, message: str, *, field: str | None = "image") -> None:
        super().__init__(message, field=field)


class TooLarge(InvalidRequest):
    """A limit on bytes, pixels or sides is passed; `limit` and `got` are in `unit`."""

    status = 413

    def __init__(
        self,
        what: str,
        *,
        got: int,
        limit: int,
        unit: str,
        advice: str = "",
        field: str | None = "image",
    ) -> None:
        text = f"{what} is {got:,} {unit}; the limit is {limit:,} {unit}."
        super().__init__(f"{text} {advice}".strip(), field=field)
        self.got, self.limit, self.unit = got, limit, unit


class NotFound(InvalidRequest):
    """No such path, or a media link that has expired."""

    status = 404


class MethodNotAllowed(InvalidRequest):
    """The path exists, the method does not."""

    status = 405


class UnsupportedMediaType(InvalidRequest):
    """The body is of a content type that the path does not take."""

    status = 415


class CheckpointError(InvalidRequest):
    """A weights file that cannot be read, recognised or trusted."""


class AuthenticationFailed(UpscaleError):
    """No key where one is needed, or one that is unknown, revoked or expired."""

    status = 401
    code = "AUTHENTICATION_FAILED"
    type = "authentication_error"
    retry = False

    def __init__(self, message: str = "Invalid API key") -> None:
        super().__init__(message)


class InsufficientBalance(UpscaleError):
    """The quote is more than what a key may still spend; both in millionths of a dollar."""

    status = 402
    code = "INSUFFICIENT_BALANCE"
    type = "insufficient_quota"
    retry = False

    def __init__(self, *, required: int, available: int) -> None:
        super().__init__(
            f"Insufficient balance: this request requires ${required / 1e6:.6f}, "
            f"${available / 1e6:.6f} is available."
        )
        self.required, self.available = required, available


class ModelNotFound(UpscaleError):
    """No model of that name, here or in the catalogue. `here`: one of this machine was meant, so
    that it is not to be looked for elsewhere.
    """

    status = 404
    code = "MODEL_NOT_FOUND"
    type = "invalid_request_error"
    retry = False

    def __init__(self, name: str, suggestion: str | None = None, *, here: bool = False) -> None:
        hint = f" Did you mean '{suggestion}'?" if suggestion else ""
        super().__init__(f"Model '{name}' not found.{hint}", field="model")
        self.here = here


class ModelDisabled(UpscaleError):
    """A known model that nothing here can serve; the message says what would enable it.

    `pull` names the known file to pull for it, '' where there is none.
    """

    status = 404
    code = "MODEL_DISABLED"
    type = "invalid_request_error"
    retry = False

    def __init__(self, message: str, *, pull: str = "") -> None:
        super().__init__(message, field="model")
        self.pull = pull


class RateLimited(UpscaleError):
    """Too many requests; `retry_after` is in seconds, 1 to 60."""

    status = 429
    code = "RATE_LIMITED"
    type = "rate_limit_error"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = min(60, max(1, retry_after))


class QueueFull(RateLimited):
    """The queue in front of a device holds as many Jobs as it may."""


class SpoolFull(RateLimited):
    """What the requests at work have written fills the folder that is meant for it."""


class JobCancelled(UpscaleError):
    """The caller went away or asked to stop."""

    status = 499
    code = "REQUEST_CANCELLED"
    type = "invalid_request_error"
    retry = False


class UpstreamError(UpscaleError):
    """A remote provider failed, or refused, in a way that no other one may make good.

    `reason` is a word for programs (content_policy, in_doubt, bad_result, run_failed, ...);
    `attempts` tells every provider that was tried, as in the receipt.
    """

    code = "UPSTREAM_ERROR"
    retry = False

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        reason: str | None = None,
        attempts: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = "server_error" if status >= 500 else "invalid_request_error"
        self.reason = reason
        self.attempts = list(attempts)


class AllProvidersExhausted(UpscaleError):
    """Every route to a remote provider was tried in vain; `attempts` tells each."""

    status = 502
    code = "ALL_PROVIDERS_EXHAUSTED"
    retry = False

    def __init__(self, message: str, *, attempts: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.attempts = list(attempts)


class ServerFault(UpscaleError):
    """Something of ours failed; the request itself may be fine, but would fail again at once.

    An SDK would otherwise run a failed upscale three times.
    """

    retry: ClassVar[bool | None] = False


class WorkerDied(ServerFault):
    """The process that owns the device died while it ran this Job, twice."""


class OutOfMemory(ServerFault):
    """Even the smallest tile does not fit the device's memory."""


class OutputFault(ServerFault):
    """The result cannot be written: disk full, folder read-only."""


class MediaFull(ServerFault):
    """The result does not fit beside those that may not give way; both in bytes."""

    status = 507

    def __init__(self, *, size: int, quota: int) -> None:
        if size > quota:
            cure = "Ask for a smaller one"
        else:
            cure = "Try again when younger results have had their minute"
        super().__init__(
            f"The result ({size:,} bytes) does not fit the server's space for results "
            f"({quota:,} bytes, UPSCALE_MEDIA_QUOTA_BYTES). {cure}, or for "
            "response_format=b64_json, which is not stored."
        )
        self.size, self.quota = size, quota


class PullFault(ServerFault):
    """A file of weights does not arrive: offline, refused, broken off, not what was asked for."""

    status = 502
    retry = None


class RecordsFault(ServerFault):
    """The database of records is locked for too long, full, read-only, away or damaged.

    `detail` has the database's own words, for the operator: they may hold paths and hosts.
    """

    status = 503
    retry = None

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class Draining(ServerFault):
    """The server is shutting down and takes no new work."""

    status = 503
    retry = None
    retry_after = _SOON


def recorded(status: int | None, code: str | None, message: str) -> UpscaleError:
    """The error of which a record has kept these, as far as they tell; one that is worth another
    try says when.
    """
    if code == UpstreamError.code:
        return UpstreamError(message, status=status or UpstreamError.status)
    coded = [cls for cls in _CLASSES.values() if cls.code == code and cls is not UpscaleError]
    found = [cls for cls in coded if cls.status == status] or coded or [ServerFault]
    facts = {"retry_after": _SOON} if status in (429, 503) else {}
    return UpscaleError.from_wire({"class": found[0].__name__, "message": message, "facts": facts})


def _tree(root: type[UpscaleError]) -> dict[str, type[UpscaleError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_CLASSES = _tree(UpscaleError)
