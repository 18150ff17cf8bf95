"""How a caller wants to be answered: at once or later, within what time, as a repeat of what."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from starlette.requests import Request

from upscale.errors import InvalidParameter, InvalidRequest
from upscale.server.forms import Form, ImagePart
from upscale.server.parameters import says_yes
from upscale.weights.hashes import hash_file

RESPOND_ASYNC = "respond-async"
REPEAT_HEADER = "idempotency-key"

# What the SDKs tell of their patience, in seconds: Python's and Node's names for it.
_PATIENCE = ("x-stainless-read-timeout", "x-stainless-timeout")
_LONGEST_KEY = 255


def wants_background(request: Request, form: Form) -> bool:
    """Whether the reply is to be a request object: `Prefer: respond-async` (RFC 7240) or
    `background=true`. OpenAI's own values of `background` (transparent, opaque, auto) say nothing.
    """
    preferences = ",".join(request.headers.getlist("prefer")).split(",")
    names = {preference.partition(";")[0].strip().lower() for preference in preferences}
    return RESPOND_ASYNC in names or says_yes(form, "background")


def patience(request: Request, default: float) -> float:
    """How long the caller waits for an answer, in seconds."""
    for name in _PATIENCE:
        try:
            seconds = float(request.headers.get(name, ""))
        except ValueError:
            continue
        if 0 < seconds < float("inf"):
            return seconds
    return default


def idempotency_key(request: Request) -> str | None:
    """The header of that name. Raises InvalidRequest for one that is too long."""
    key = request.headers.get(REPEAT_HEADER, "").strip()
    if len(key) > _LONGEST_KEY:
        raise InvalidParameter("Idempotency-Key", key, f"at most {_LONGEST_KEY} characters")
    return key or None


def another_body() -> InvalidRequest:
    """The error for an idempotency key that came with another body before."""
    return InvalidRequest(
        "This Idempotency-Key came with another body before. Use a new one for each request.",
        field="Idempotency-Key",
    )


def fingerprint(form: Form) -> str:
    """A hash of everything that a form says, in any order and encoding. Blocks: reads the files."""
    said = [(name, str(value)) for name, values in form.fields.items() for value in values]
    images = [_content(part) for part in form.images if part.size]
    # As JSON, since names and values may hold whatever could stand between them.
    whole = json.dumps([sorted(said), sorted(images)])
    return hashlib.sha256(whole.encode("ascii")).hexdigest()


def _content(part: ImagePart) -> str:
    if part.path is not None:
        return hash_file(Path(part.path))
    return hashlib.sha256(part.data).hexdigest()
