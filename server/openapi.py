"""The OpenAPI description of the routes, written as data: what FastAPI would guess from functions
that read bodies themselves is next to nothing. A test holds it against the routes, and runs its
examples.
"""

from __future__ import annotations

from typing import Any

from upscale import __version__
from upscale.errors import (
    Draining,
    InvalidParameter,
    MediaFull,
    MethodNotAllowed,
    ModelDisabled,
    ModelNotFound,
    NotFound,
    QueueFull,
    ServerFault,
    TooLarge,
    UnsupportedMediaType,
    UpscaleError,
)
from upscale.server.errors import error_body, of_status
from upscale.server.schema import COMMON

# 8 x 8 pixels of grey.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADklEQVR42mNogA"
    "IGyhgAgIQgARDoahcAAAAASUVORK5CYII="
)

EDITS = "/openai/v1/images/edits"

_ID = "req_2Nf3kQb7ZJvYw0cXr5HtLm9PaSd"
_MEDIA = "http://127.0.0.1:8000/media/0GeKauzqKTBQozIa2SvxEwAPOVx.png"

_RESULT = {
    "created": 1795591222,
    "size": "32x32",
    "data": [{"url": _MEDIA}],
    "metadata": {
        "model": "bundled-x4",
        "executed_model": "local/bundled-x4",
        "provider": "local",
        "provider_name": "Local",
        "cost": 0.0,
        "cost_currency": "USD",
        "receipt": {},
    },
}
_DRY_RUN = {
    "estimated": True,
    "model": "bundled-x4",
    "provider": "local",
    "total_cost_micros": 0,
    "currency": "USD",
    "components": [
        {
            "type": "output",
            "metric": "image",
            "quantity": 1,
            "billable_quantity": 1,
            "unit_price": 0.0,
            "total_cost": 0,
        }
    ],
    "plan": {"size": "32x32", "tiles": 1, "expected_seconds": 0.1, "expected_bytes": 480000000},
}
_MODEL = {
    "id": "real-esrgan",
    "object": "model",
    "created": 1627776000,
    "owned_by": "tencent-arc",
    "available": True,
    "network": "realesrgan_x4plus",
}

# One of each; `docs/api.md` says when.
ERRORS: tuple[UpscaleError, ...] = (
    InvalidParameter("scale_factor", "99", "a number from 1 to 16"),
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
    ServerFault("Something unexpected went wrong. The server's log has the details."),
    Draining("The server is shutting down; try again in a minute."),
    MediaFull(size=52_428_800, quota=41_943_040),
)


def document() -> dict[str, Any]:
    """The whole description, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "upscale",
            "version": __version__,
            "description": "Image upscaling on this machine, with the hosted gateway's API.",
        },
        "paths": {
            EDITS: {"post": _edit()},
            "/openai/v1/models": {"get": _get("List the models", _list(_MODEL))},
            "/openai/v1/models/{name}": {
                "get": _get("One model", _MODEL, 400, 404, parameters=[_NAME]),
            },
            "/v1/models": {"get": _get("List the models", _list(_MODEL))},
            "/v1/models/{name}": {
                "get": _get(
                    "One model, or the JSON Schema of what a request for it may hold",
                    _MODEL,
                    400,
                    404,
                    parameters=[_NAME, _flag("schema", "The JSON Schema instead.")],
                )
            },
            "/health": {
                "get": _get(
                    "Whether the server can work",
                    {"status": "ok", "version": __version__, "worker": True, "waiting": 0},
                )
            },
            "/media/{name}": {"get": _media()},
        },
        "components": {
            "schemas": {
                "Edit": {
                    "type": "object",
                    "properties": {**COMMON, "image": {"$ref": "#/components/schemas/Image"}},
                    "required": ["model", "image"],
                    "additionalProperties": True,
                },
                "Image": COMMON["image"],
                "Error": _ERROR_SCHEMA,
            },
            "headers": {
                "x-request-id": _header("The request's id; X-Lumenfall-Request-Id is the same."),
                "X-Lumenfall-Provider": _header("Who ran it: local, or none."),
                "X-Lumenfall-Model": _header("What ran: local/NETWORK, or none."),
            },
        },
    }


_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "bundled-x4",
}

_ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string"},
                "param": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "code", "param"],
        }
    },
    "required": ["error"],
}


def _edit() -> dict[str, Any]:
    edit = {"$ref": "#/components/schemas/Edit"}
    by_size = {"model": "bundled-x4", "image": PICTURE, "target_width": 20}
    return {
        "summary": "Upscale an image",
        "description": "Parts and members in any order; unknown ones are ignored. With "
        "`dryRun=true` everything is checked, planned and priced, and nothing is done.",
        "parameters": [_flag("dryRun", "Check, plan and price it, do nothing.")],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": edit,
                    "examples": {
                        "a file": {
                            "value": {
                                "model": "bundled-x4",
                                "image": "@examples/sample.png",
                                "scale_factor": "2",
                            }
                        }
                    },
                },
                "application/json": {
                    "schema": edit,
                    "examples": {
                        "a data URI": {
                            "value": {"model": "bundled-x4", "image": PICTURE, "scale_factor": 4}
                        },
                        "a width": {"value": by_size},
                        "the file in the reply": {
                            "value": {
                                "model": "bundled-x4",
                                "images": [{"image_url": PICTURE}],
                                "response_format": "b64_json",
                                "output_format": "webp",
                            }
                        },
                    },
                },
            },
        },
        "responses": {
            "200": {
                "description": "The result, or what a run would cost.",
                "headers": _headers(),
                "content": {
                    "application/json": {
                        "schema": {"anyOf": [_shape(_RESULT), _shape(_DRY_RUN)]},
                        "examples": {
                            "a result": {"value": _RESULT},
                            "a dry run": {"value": _DRY_RUN},
                        },
                    }
                },
            },
            **_errors(400, 404, 405, 413, 415, 429, 500, 503, 507),
        },
        "x-codeSamples": [
            {
                "lang": "shell",
                "source": "curl http://127.0.0.1:8000/openai/v1/images/edits "
                "-F model=bundled-x4 -F image=@examples/sample.png -F scale_factor=2",
            },
            {
                "lang": "shell",
                "source": "curl 'http://127.0.0.1:8000/openai/v1/images/edits?dryRun=true' "
                "-F model=bundled-x4 -F image=@examples/sample.png -F target_megapixels=2",
            },
        ],
    }


def _get(
    summary: str,
    example: dict[str, Any],
    *failures: int,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {
            "200": {
                "description": "OK",
                "headers": _headers(),
                "content": {"application/json": {"example": example}},
            },
            **_errors(*failures, 405),
        },
    }


def _media() -> dict[str, Any]:
    file = {"schema": {"type": "string", "format": "binary"}}
    return {
        "summary": "The file of a media link; HEAD and Range work",
        "parameters": [{**_NAME, "example": _MEDIA.rsplit("/", 1)[1]}],
        "responses": {
            "200": {"description": "OK", "headers": _headers(), "content": {"image/*": file}},
            "206": {"description": "A part", "headers": _headers(), "content": {"image/*": file}},
            "304": {"description": "The caller has it already", "headers": _headers()},
            **_errors(404, 405, 416),
        },
    }


def _shape(example: Any) -> dict[str, Any]:
    """The schema of replies that have the members of `example`, with its types, and maybe more."""
    if isinstance(example, dict):
        members = {name: _shape(value) for name, value in example.items()}
        # An entry of `data` has its link, or its bytes.
        return {"type": "object", "properties": members, "required": sorted({*members} - {"url"})}
    if isinstance(example, list):
        return {"type": "array", "items": _shape(example[0])}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": kinds[type(example)]}


def _list(entry: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [entry]}


def _flag(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "boolean", "default": False},
    }


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": _ID}


def _headers() -> dict[str, Any]:
    names = ("x-request-id", "X-Lumenfall-Provider", "X-Lumenfall-Model")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _errors(*statuses: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status in statuses:
        fitting = [error for error in ERRORS if error.status == status]
        # Those that a library decides on have no class of their own.
        fitting = fitting or [of_status(status, "GET", "/media/…")]
        examples = {type(error).__name__: {"value": error_body(error)} for error in fitting}
        found[str(status)] = {
            "description": " or ".join(examples),
            "headers": _headers(),
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Error"},
                    "examples": examples,
                }
            },
        }
    return found
