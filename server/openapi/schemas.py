"""Shapes of bodies: requests by encoding, and replies. Replies may hold more than is told here."""

from __future__ import annotations

from typing import Any

from upscale.server.schema import FIELDS

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}
_TRUTH = {"type": "boolean"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": _TEXT}
_ANYTHING = {"type": "object"}
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


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(members: dict[str, Any], *optional: str, **more: Any) -> dict[str, Any]:
    """An object that has all of `members` but the optional ones."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, "required": required, **more}


def _one(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 1}


def _edit(images: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A request whose image comes under one of those names."""
    image = {**images["image"], "description": FIELDS["image"]["description"]}
    others = {name: schema for name, schema in FIELDS.items() if name not in ("model", "image")}
    return {
        "type": "object",
        "properties": {"model": FIELDS["model"], **images, "image": image, **others},
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
        "anyOf": [_ADDRESS, _object({"url": _ADDRESS}), _object({"image_url": _ADDRESS})],
    },
}

_SIZE = {"type": "string", "pattern": "^[0-9]+x[0-9]+$", "description": "Width x height."}
_CURRENCY = {"type": "string", "const": "USD"}

_EDITED = {
    "Result": _object(
        {
            "created": _SECONDS,
            "size": _SIZE,
            "data": {
                "type": "array",
                "minItems": 1,
                "maxItems": 10,
                "items": {"anyOf": [_object({"url": _ADDRESS}), _object({"b64_json": _TEXT})]},
                "description": "`n` entries: a link, or the file as base64.",
            },
            "metadata": _object(
                {
                    "model": _TEXT,
                    "executed_model": _TEXT,
                    "provider": _TEXT,
                    "provider_name": _TEXT,
                    "cost": {"type": "number", "minimum": 0, "description": "Of the request."},
                    "cost_currency": _CURRENCY,
                    "receipt": {"type": "object", "description": "What really happened."},
                }
            ),
        }
    ),
    "DryRun": _object(
        {
            "estimated": {"type": "boolean", "const": True},
            "model": _TEXT,
            "provider": _TEXT,
            "total_cost_micros": {"type": "integer", "description": "Millionths of a dollar."},
            "currency": _CURRENCY,
            "components": {
                "type": "array",
                "items": _object(
                    {
                        "type": _TEXT,
                        "metric": {"type": "string", "enum": ["image", "megapixel"]},
                        "quantity": _NUMBER,
                        "billable_quantity": _NUMBER,
                        "unit_price": {"type": "number", "description": "In dollars."},
                        "total_cost": {"type": "integer", "description": "In millionths."},
                    }
                ),
            },
            "plan": _object(
                {
                    "size": _SIZE,
                    "precision": _TEXT,
                    "tiles": _WHOLE,
                    "expected_seconds": _NUMBER,
                    "expected_bytes": _WHOLE,
                },
                description="What a run would do.",
            ),
        }
    ),
}

_CARD = {
    "id": _TEXT,
    "object": {"type": "string", "const": "model"},
    "created": _SECONDS,
    "owned_by": _TEXT,
    "scale_factor": _object(
        {
            "rule": {"type": "string", "enum": ["free", "choices", "fixed"]},
            "allowed": {"type": "string", "description": "The rule in words."},
            "default": {"type": ["number", "null"], "description": "null: the network's own."},
        }
    ),
    "name": _TEXT,
    "available": {"type": "boolean", "description": "Whether it can run here, now."},
    "network": {**_MAYBE_TEXT, "description": "What would run."},
    "reason": {**_MAYBE_TEXT, "description": "Why it cannot run, and what would change that."},
}

_INSTALLABLE = {
    "id": _TEXT,
    "command": _TEXT,
    "bytes": {"type": ["integer", "null"]},
    "licence": _MAYBE_TEXT,
    "author": _MAYBE_TEXT,
}

_LISTED = {
    "Model": {"anyOf": [_ref("CatalogueModel"), _ref("InstalledNetwork")]},
    "CatalogueModel": _object(
        {
            **_CARD,
            "aliases": _TEXTS,
            "installed": _TEXTS,
            "installable": {"type": "array", "items": _object(_INSTALLABLE)},
            "import_command": _TEXT,
            "remote": {
                "type": "array",
                "items": _object(
                    {"provider": _TEXT, "endpoint": _TEXT, "key": _TEXT, "available": _TRUTH}
                ),
            },
        }
    ),
    "InstalledNetwork": _object(
        {
            **_CARD,
            "serves": _TEXTS,
            "bundled": _TRUTH,
            "licence": _MAYBE_TEXT,
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        }
    ),
    "Models": _object(
        {
            "object": {"type": "string", "const": "list"},
            "data": {"type": "array", "items": _ref("Model")},
        }
    ),
    "ModelSchema": _object(
        {
            "$schema": _TEXT,
            "title": _TEXT,
            "type": {"type": "string", "const": "object"},
            "properties": _ANYTHING,
            "required": _TEXTS,
        }
    ),
    "ModelOrSchema": {"anyOf": [_ref("Model"), _ref("ModelSchema")]},
}

_OTHERS = {
    "Health": _object(
        {
            "status": {"type": "string", "enum": ["ok", "degraded"]},
            "version": _TEXT,
            "worker": {"type": "boolean", "description": "Whether it is alive."},
            "waiting": {"type": "integer", "minimum": 0, "description": "Unfinished jobs."},
        }
    ),
    "Description": _object(
        {"openapi": _TEXT, "info": _ANYTHING, "paths": _ANYTHING, "components": _ANYTHING}
    ),
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "code": _TEXT,
                    "param": {**_MAYBE_TEXT, "description": "The field to blame."},
                }
            )
        }
    ),
}

SCHEMAS: dict[str, dict[str, Any]] = {**_REQUESTS, **_EDITED, **_LISTED, **_OTHERS}
