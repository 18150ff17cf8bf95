"""What tells of the server itself: its health, and this description."""

from __future__ import annotations

from upscale import __version__
from upscale.server.openapi.operations import json_of, public, reply

_HEALTH = {"status": "ok", "version": __version__, "worker": True, "waiting": 0}
_HTML = {"text/html": {"schema": {"type": "string"}}}

PATHS = {
    "/health": public(
        "getHealth",
        "Whether the server can work",
        {"200": reply("How it is", json_of("Health", at_work=_HEALTH))},
    ),
    "/openapi.json": public(
        "getDescription",
        "This description, for programs",
        {"200": reply("OpenAPI 3.1", json_of("Description"))},
    ),
    "/docs": public(
        "getDocs",
        "This description, for people",
        {"200": reply("A page that loads nothing from elsewhere", _HTML)},
    ),
}
