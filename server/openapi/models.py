"""The list of models, one of them, and the JSON Schema of its parameters; under two prefixes."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from upscale.server.openapi.operations import json_of, reading, reply, switch
from upscale.server.schema import DIALECT

# What is known of the network that is shipped.
_BUNDLED = json.loads(
    resources.files("upscale.weights").joinpath("bundled", "bundled-x4.json").read_text("utf-8")
)
_FACTOR = {"rule": "free", "allowed": "a number from 1 to 16", "default": 4}

_MODEL = {
    "id": "real-esrgan",
    "object": "model",
    "created": 1627776000,
    "owned_by": "tencent-arc",
    "scale_factor": _FACTOR,
    "name": "Real-ESRGAN",
    "aliases": ["realesrgan", "esrgan"],
    "available": True,
    "network": "realesrgan_x4plus",
    "installed": ["realesrgan_x4plus"],
    "installable": [
        {
            "id": "realesrgan_x4plus",
            "command": "upscale weights pull realesrgan_x4plus",
            "bytes": 67040989,
            "licence": "BSD-3-Clause",
            "author": "xinntao",
        }
    ],
    "import_command": "upscale weights import FILE --as real-esrgan",
    "reason": None,
    "remote": [
        {"provider": "fal", "endpoint": "fal-ai/esrgan", "key": "FAL_KEY", "available": False}
    ],
}

_NETWORK = {
    "id": "bundled-x4",
    "object": "model",
    "created": 1795591222,
    "owned_by": "upscale",
    "scale_factor": {**_FACTOR, "default": None},
    "name": "bundled-x4",
    "available": True,
    "network": "bundled-x4",
    "serves": [],
    "bundled": True,
    "licence": "Apache-2.0",
    "sha256": _BUNDLED["sha256"],
    "reason": None,
}

_SCHEMA = {
    "$schema": DIALECT,
    "title": "google-upscaler",
    "type": "object",
    "properties": {"scale_factor": {"type": "number", "enum": [2, 4], "default": 2}},
    "required": ["model", "image"],
}

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "An id, an alias, an installed network, or `provider/id`, its slash escaped or "
    "not.",
    "schema": {"type": "string"},
    "example": "bundled-x4",
}

_WANTS_SCHEMA = switch("schema", "The JSON Schema of what a request for it may hold, instead.")

_LISTED = {
    "200": reply(
        "The catalogue, then installed networks",
        json_of("Models", models={"object": "list", "data": [_MODEL, _NETWORK]}),
    )
}
_ONE = {
    "200": reply(
        "The model, or its schema",
        json_of("ModelOrSchema", a_model=_MODEL, a_network=_NETWORK, a_schema=_SCHEMA),
    )
}


def _list(identity: str) -> dict[str, Any]:
    return reading(identity, "List the models", _LISTED, 401)


def _one(identity: str) -> dict[str, Any]:
    summary = "One model, or the JSON Schema of its parameters"
    return reading(identity, summary, _ONE, 401, 404, parameters=(_NAME, _WANTS_SCHEMA))


PATHS = {
    "/openai/v1/models": _list("listModels"),
    "/openai/v1/models/{name}": _one("getModel"),
    "/v1/models": _list("listModelsNative"),
    "/v1/models/{name}": _one("getModelNative"),
}
