"""Shapes of bodies: requests by encoding, and replies. Replies may hold more than is told here."""

from __future__ import annotations

from typing import Any

from upscale.server.openapi.recorded import RECORDED
from upscale.server.openapi.shapes import (
    ANYTHING,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    NUMBER,
    TEXT,
    TEXTS,
    TRUTH,
    WHOLE,
    listed,
    ref,
    thing,
)
from upscale.server.schema import BESIDES, FIELDS

_SECONDS = {"type": "integer", "description": "Unix seconds."}

_ADDRESS = {
    "type": "string",
    "format": "uri",
    "description": "An http(s) URL, a data URI, or a media link of this server.",
}
_FILE = {
    "description": "A file, judged by its bytes, or text: a URL, a data URI, a media link.",
    "anyOf": [{"type": "string", "format": "binary"}, _ADDRESS],
}
_IMAGE = {"$ref": "#/components/schemas/Image"}


def _one(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 1}


def _edit(images: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A request whose image comes under one of those names."""
    image = {**images["image"], "description": FIELDS["image"]["description"]}
    others = {name: schema for name, schema in FIELDS.items() if name not in ("model", "image")}
    return {
        "type": "object",
        "properties": {"model": FIELDS["model"], **images, "image": image, **others, **BESIDES},
        "required": ["model"],
        "anyOf": [{"required": [name]} for name in images],
        "additionalProperties": True,
    }


_REQUESTS = {
    "Edit": _edit(
        {
            "image": {"anyOf": [_IMAGE, _one(_IMAGE)]},
            "image[]": _one(_IMAGE),
            "image_url": _IMAGE,
            "images": _one(_IMAGE),
        }
    ),
    "EditForm": _edit(
        {"image": _FILE, "image[]": _one(_FILE), "image_url": _ADDRESS, "image[url]": _ADDRESS}
    ),
    "EditFields": _edit(
        {
            "image": _ADDRESS,
            "image[]": _one(_ADDRESS),
            "image_url": _ADDRESS,
            "image[url]": _ADDRESS,
        }
    ),
    "Image": {
        "anyOf": [_ADDRESS, thing({"url": _ADDRESS}), thing({"image_url": _ADDRESS})],
    },
}

_SIZE = {"type": "string", "pattern": "^[0-9]+x[0-9]+$", "description": "Width x height."}
_CURRENCY = {"type": "string", "const": "USD"}


def _result(inline: dict[str, Any]) -> dict[str, Any]:
    """The reply of an edit; `inline` is the file in base64."""
    return thing(
        {
            "created": _SECONDS,
            "size": _SIZE,
            "data": {
                "type": "array",
                "minItems": 1,
                "maxItems": 10,
                "items": {"anyOf": [thing({"url": _ADDRESS}), thing({"b64_json": inline})]},
                "description": "`n` entries: a link, or the file as base64.",
            },
            "metadata": thing(
                {
                    "model": TEXT,
                    "executed_model": TEXT,
                    "provider": TEXT,
                    "provider_name": TEXT,
                    "cost": {"type": "number", "minimum": 0, "description": "Of the request."},
                    "cost_currency": _CURRENCY,
                    "receipt": {"type": "object", "description": "What really happened."},
                },
                # Nobody publishes what some remote routes cost.
                "cost",
                "cost_currency",
            ),
        }
    )


_EDITED = {
    "Result": _result(TEXT),
    "KeptResult": _result(MAYBE_TEXT),
    "DryRun": thing(
        {
            "estimated": {"type": "boolean", "const": True},
            "model": TEXT,
            "provider": TEXT,
            "total_cost_micros": {"type": "integer", "description": "Millionths of a dollar."},
            "currency": _CURRENCY,
            "components": {
                "type": "array",
                "items": thing(
                    {
                        "type": TEXT,
                        "metric": {"type": "string", "enum": ["image", "megapixel", "second"]},
                        "quantity": NUMBER,
                        "billable_quantity": NUMBER,
                        "unit_price": {"type": "number", "description": "In dollars."},
                        "total_cost": {"type": "integer", "description": "In millionths."},
                    }
                ),
            },
            "plan": {
                "anyOf": [
                    thing(
                        {
                            "size": _SIZE,
                            "precision": TEXT,
                            "tiles": WHOLE,
                            "expected_seconds": NUMBER,
                            "expected_bytes": WHOLE,
                        }
                    ),
                    thing(
                        {
                            "size": {"anyOf": [_SIZE, {"type": "null"}]},
                            "routes": {"type": "array", "items": ANYTHING},
                            "skipped": {"type": "array", "items": ANYTHING},
                            "sent": ANYTHING,
                            "expected_seconds": MAYBE_NUMBER,
                        }
                    ),
                ],
                "description": "What a run would do: here, or at a remote provider.",
            },
            "approximate": {
                "type": "boolean",
                "description": "Of a remote route: whether the bill may differ.",
            },
            "price": thing(
                {"source": TEXT, "read": MAYBE_TEXT},
                description="Where the price of a remote route was read, and when.",
            ),
        },
        "total_cost_micros",
        "approximate",
        "price",
    ),
}

_CARD = {
    "id": TEXT,
    "object": {"type": "string", "const": "model"},
    "created": _SECONDS,
    "owned_by": TEXT,
    "scale_factor": thing(
        {
            "rule": {"type": "string", "enum": ["free", "choices", "fixed"]},
            "allowed": {"type": "string", "description": "The rule in words."},
            "default": {"type": ["number", "null"], "description": "null: the network's own."},
        }
    ),
    "name": TEXT,
    "available": {"type": "boolean", "description": "Whether it can run here, now."},
    "network": {**MAYBE_TEXT, "description": "What would run."},
    "reason": {**MAYBE_TEXT, "description": "Why it cannot run, and what would change that."},
}

_INSTALLABLE = {
    "id": TEXT,
    "command": TEXT,
    "bytes": {"type": ["integer", "null"]},
    "licence": MAYBE_TEXT,
    "author": MAYBE_TEXT,
}

_LISTED = {
    "Model": {"anyOf": [ref("CatalogueModel"), ref("InstalledNetwork")]},
    "CatalogueModel": thing(
        {
            **_CARD,
            "aliases": TEXTS,
            "installed": TEXTS,
            "installable": {"type": "array", "items": thing(_INSTALLABLE)},
            "import_command": TEXT,
            "remote": {
                "type": "array",
                "items": thing(
                    {"provider": TEXT, "endpoint": TEXT, "key": TEXT, "available": TRUTH}
                ),
            },
        }
    ),
    "InstalledNetwork": thing(
        {
            **_CARD,
            "serves": TEXTS,
            "bundled": TRUTH,
            "licence": MAYBE_TEXT,
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        }
    ),
    "Models": listed(ref("Model")),
    "ModelSchema": thing(
        {
            "$schema": TEXT,
            "title": TEXT,
            "type": {"type": "string", "const": "object"},
            "properties": ANYTHING,
            "required": TEXTS,
        }
    ),
    "ModelOrSchema": {"anyOf": [ref("Model"), ref("ModelSchema")]},
}

_OTHERS = {
    "Health": thing(
        {
            "status": {"type": "string", "enum": ["ok", "degraded"]},
            "version": TEXT,
            "worker": {"type": "boolean", "description": "Whether it is alive."},
            "waiting": {"type": "integer", "minimum": 0, "description": "Unfinished jobs."},
        }
    ),
    "Description": thing(
        {"openapi": TEXT, "info": ANYTHING, "paths": ANYTHING, "components": ANYTHING}
    ),
    "PassedOn": {
        "type": "object",
        "properties": {
            "model": {**TEXT, "description": "One that the other server knows."},
            "prompt": {**TEXT, "description": "As all else the other server's to understand."},
        },
        "additionalProperties": True,
    },
    "Error": thing(
        {
            "error": thing(
                {
                    "message": TEXT,
                    "type": TEXT,
                    "code": TEXT,
                    "param": {**MAYBE_TEXT, "description": "The field to blame."},
                    "reason": {**TEXT, "description": "Of a remote provider: a word for programs."},
                    "attempts": {
                        "type": "array",
                        "items": ANYTHING,
                        "description": "What was tried at which remote provider.",
                    },
                },
                "reason",
                "attempts",
            )
        }
    ),
}

SCHEMAS: dict[str, dict[str, Any]] = {**_REQUESTS, **_EDITED, **_LISTED, **RECORDED, **_OTHERS}
