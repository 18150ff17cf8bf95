"""The body of a request that is passed on: kept as it came, and looked into for the model that it
names.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request

from upscale.errors import InvalidRequest
from upscale.server.body import read_form, spool_body
from upscale.server.forms import Form
from upscale.server.services import Services
from upscale.server.spool import RequestFolder
from upscale.server.wishes import fingerprint
from upscale.weights.hashes import hash_file

_NAME = 200
# JSON bodies up to this size are looked into.
_LOOKED_INTO = 1 << 20


@dataclass(frozen=True)
class Named:
    """The model that a body names, None where none is found; `mark` tells the body from others."""

    model: str | None
    mark: str


async def read_body(request: Request, ours: Services, folder: RequestFolder, body: Path) -> Named:
    """The whole body into the file `body`, and what is known of it. Raises InvalidRequest where it
    names two models.
    """
    limits = (ours.settings.max_body_bytes, ours.settings.upload_idle_seconds)
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await read_form(request, folder, *limits, copy=body)
        names = models_in(form)
        # The boundary is another one each time.
        mark = await asyncio.to_thread(fingerprint, form)
        return Named(names[0][:_NAME] if names else None, _marked(request, kind, mark))
    await spool_body(request, folder, body, *limits)
    mark = _marked(request, content_type, await asyncio.to_thread(hash_file, body))
    is_json = kind == "application/json"
    return Named(await asyncio.to_thread(_model_in, body) if is_json else None, mark)


def models_in(form: Form) -> list[str]:
    """The name of the model, where a form has one. Raises InvalidRequest where it has two."""
    found = [values for name, values in form.fields.items() if name.lower() == "model"]
    names = list(dict.fromkeys(str(value) for values in found for value in values))
    if len(found) > 1 or len(names) > 1:
        raise _two_models()
    return names


def _marked(request: Request, kind: str, mark: str) -> str:
    return hashlib.sha256(json.dumps([request.url.path, kind, mark]).encode()).hexdigest()


def _model_in(body: Path) -> str | None:
    """The model that a JSON body names; None where it is no object, or very long. Raises
    InvalidRequest where it names two.
    """
    if body.stat().st_size > _LOOKED_INTO:
        return None
    try:
        model = json.loads(body.read_bytes(), object_pairs_hook=_object)["model"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return model[:_NAME] if isinstance(model, str) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two counts is not the same everywhere, nor whether case does.
    if sum(name.lower() == "model" for name, _ in pairs) > 1:
        raise _two_models()
    return dict(pairs)


def _two_models() -> InvalidRequest:
    return InvalidRequest("The body names its model twice. Name it once.", field="model")
