"""The whole description, from its parts."""

from __future__ import annotations

from typing import Any

from upscale import __version__
from upscale.server.openapi import edits, media, models, native, pages, passed_on
from upscale.server.openapi.headers import HEADERS
from upscale.server.openapi.operations import FAILURES, failure
from upscale.server.openapi.schemas import SCHEMAS

# In the order in which a reader meets them.
_GROUPS = (edits, native, models, passed_on, media, pages)

_DESCRIPTION = """\
Image upscaling on this machine, with the hosted gateway's API.

Every path also answers OPTIONS, with 204 and `Allow`. A path that is not here is a 404, a method \
that a path does not have a 405, both in the shape of all errors; nothing is answered with a \
redirect.

Keys are asked for once the operator has made one, as `Authorization: Bearer KEY`; before that, \
whatever an SDK sends as a key is ignored. Media links, `/health` and this description need none. \
A key sees its own requests alone. Callers without one see those of nobody where all of them are \
on the server's machine, and elsewhere those whose ids they have."""

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "Asked for once a key was made: `upscale keys create NAME`.",
}


def document() -> dict[str, Any]:
    """The description, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "upscale", "version": __version__, "description": _DESCRIPTION},
        "security": [{"bearer": []}, {}],
        "paths": {path: item for group in _GROUPS for path, item in group.PATHS.items()},
        "components": {
            "securitySchemes": {"bearer": _BEARER},
            "schemas": SCHEMAS,
            "headers": HEADERS,
            "responses": {f"Error{status}": failure(status) for status in FAILURES},
        },
    }
