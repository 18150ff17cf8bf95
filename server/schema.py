"""The parameters of a model as JSON Schema: the fields that every model takes, its rule of factors,
and what its catalogue entry adds. The served API page shows it, and `GET /v1/models/{id}` does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from upscale.imaging.limits import FORMATS
from upscale.models.catalogue import Parameter, ScaleRule
from upscale.models.quote import number
from upscale.server.choosing import Named

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_IMAGE = {
    "description": "A file (multipart), an http(s) URL, a data URI, or a media link of this "
    "server. PNG, JPEG, WebP, GIF, TIFF, BMP or AVIF, judged by its bytes; one per request.",
    "anyOf": [
        {"type": "string", "format": "binary"},
        {"type": "string", "format": "uri"},
        {"type": "object", "properties": {"url": {"type": "string", "format": "uri"}}},
    ],
}

# In the order of docs/api.md; `x-ours`: not of the hosted gateway.
COMMON: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "A model, see GET /openai/v1/models."},
    "image": _IMAGE,
    "scale_factor": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Factor of each side; the model says which it takes, and its default.",
    },
    "target_width": {
        "type": "integer",
        "minimum": 1,
        "description": "Width of the result in pixels, met exactly; the height follows.",
        "x-ours": True,
    },
    "target_height": {
        "type": "integer",
        "minimum": 1,
        "description": "Height of the result in pixels, met exactly; the width follows.",
        "x-ours": True,
    },
    "target_megapixels": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "The largest result of at most that many million pixels.",
        "x-ours": True,
    },
    "output_format": {
        "type": "string",
        "enum": sorted(FORMATS),
        "default": "png",
        "description": "Format of the result.",
    },
    "output_compression": {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "description": "Quality of jpeg, webp and avif.",
    },
    "background_color": {
        "type": "string",
        "default": "#ffffff",
        "description": "What goes under transparency in a jpeg: #ffcc00, white.",
        "x-ours": True,
    },
    "strip_metadata": {
        "type": "boolean",
        "default": False,
        "description": "Leave out EXIF, GPS, XMP, texts and dpi; the colour profile stays.",
        "x-ours": True,
    },
    "response_format": {
        "type": "string",
        "enum": ["url", "b64_json"],
        "default": "url",
        "description": "A link, or the file itself as base64.",
    },
    "n": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
        "default": 1,
        "description": "Entries in `data`: one run, the same picture.",
    },
    "seed": {
        "type": "integer",
        "minimum": 0,
        "maximum": 2**63 - 1,
        "default": 0,
        "description": "For networks that draw random numbers.",
        "x-ours": True,
    },
    "allow_resample": {
        "type": "boolean",
        "default": False,
        "description": "Where a remote provider has no such factor: take its next larger one, and "
        "resample the result here.",
        "x-ours": True,
    },
}

# What says how the request is treated, not what becomes of the picture.
BESIDES: dict[str, dict[str, Any]] = {
    "background": {
        "anyOf": [{"type": "boolean"}, {"type": "string"}],
        "description": "true: answer with a request object at once (202) and do the work after it, "
        "as `Prefer: respond-async` asks for, too. OpenAI's transparent, opaque and auto say "
        "nothing here.",
    },
    "user": {"type": "string", "description": "Your name for your user; kept in the record."},
}

_DENOISE = Parameter("denoise", "number", Decimal(0), Decimal(1), effect="blend")


def model_schema(named: Named) -> dict[str, Any]:
    """The JSON Schema of what a request for that model may hold."""
    properties = {
        **COMMON,
        "model": {**COMMON["model"], "const": named.id},
        "scale_factor": scale_schema(named.scale),
    }
    extra: tuple[Parameter, ...] = ()
    if named.model is not None:
        extra = named.model.parameters
    elif named.network is not None and named.network.blend_path is not None:
        extra = (_DENOISE,)
    for parameter in extra:
        # What is common to all models is described there, and the catalogue only narrows it.
        properties[parameter.name] = {**_schema(parameter), **properties.get(parameter.name, {})}
    properties |= BESIDES
    return {
        "$schema": DIALECT,
        "title": named.id,
        "type": "object",
        "properties": properties,
        "required": ["model", "image"],
        "additionalProperties": True,
    }


def scale_schema(rule: ScaleRule) -> dict[str, Any]:
    """The factors of a rule as JSON Schema."""
    schema: dict[str, Any] = {"type": "number"}
    if rule.kind == "choices":
        schema["enum"] = [number(choice) for choice in rule.choices]
    elif rule.kind == "free":
        schema |= {"minimum": number(rule.minimum), "maximum": number(rule.maximum)}
    else:
        schema["exclusiveMinimum"] = 0
    if rule.default is not None:
        schema["default"] = number(rule.default)
        schema["description"] = "Factor of each side."
    elif rule.kind == "fixed":
        schema["description"] = "Accepted and ignored: the model decides."
    else:
        schema["description"] = "Factor of each side; the network's own where it is left out."
    return schema


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.type}
    if parameter.minimum is not None:
        schema["minimum"] = number(parameter.minimum)
    if parameter.maximum is not None:
        schema["maximum"] = number(parameter.maximum)
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    if parameter.effect is None:
        schema["description"] = "Of remote providers; accepted, and without effect on this machine."
    else:
        schema["description"] = "Mixes two networks: 1 smooths, 0 keeps noise."
    return schema


# All that a request may hold, whichever its model.
FIELDS: dict[str, dict[str, Any]] = {**COMMON, "denoise": {**_schema(_DENOISE), "x-ours": True}}
