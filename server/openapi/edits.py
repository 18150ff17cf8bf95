"""`POST /openai/v1/images/edits`: what goes in, in three encodings, and what comes out."""

from __future__ import annotations

from typing import Any

from upscale.server.openapi.operations import failures, reply, switch

EDITS = "/openai/v1/images/edits"

# 8 x 8 pixels of grey.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAADklEQVR42mNogA"
    "IGyhgAgIQgARDoahcAAAAASUVORK5CYII="
)

_RESULT: dict[str, Any] = {
    "created": 1795591222,
    "size": "32x32",
    "data": [{"url": "http://127.0.0.1:8000/media/0GeKauzqKTBQozIa2SvxEwAPOVx.png"}],
    "metadata": {
        "model": "bundled-x4",
        "executed_model": "local/bundled-x4",
        "provider": "local",
        "provider_name": "Local",
        "cost": 0.0,
        "cost_currency": "USD",
        "receipt": {"precision": "fp32", "tiles": {"planned": 1, "done": 1}, "seconds": {}},
    },
}

_COMPONENT = {
    "type": "output",
    "metric": "image",
    "quantity": 1,
    "billable_quantity": 1,
    "unit_price": 0.0,
    "total_cost": 0,
}

_DRY_RUN: dict[str, Any] = {
    "estimated": True,
    "model": "bundled-x4",
    "provider": "local",
    "total_cost_micros": 0,
    "currency": "USD",
    "components": [_COMPONENT],
    "plan": {
        "size": "32x32",
        "precision": "fp32",
        "tiles": 1,
        "expected_seconds": 0.1,
        "expected_bytes": 480000000,
    },
}

_DRY = "Check, plan and price it, do nothing. In any case of letters; a yes without a value too."
_OTHER = "Another spelling of dryRun; a yes in any of them is enough."

_DESCRIPTION = """\
One image, as a file, a URL, a data URI or a media link of this server, under any of the names \
that the schema lists (`image[0]` is `image[]`). Parts and members come in any order; numbers and \
booleans may be written as text; an empty text counts as absent. `prompt`, `mask`, `size`, \
`aspect_ratio`, `quality`, `style`, `background`, `user` and unknown fields are accepted and \
ignored; `stream=true` is refused. With `dryRun=true` everything is checked, planned and priced, \
and nothing is done."""


def _taken(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": {"$ref": f"#/components/schemas/{schema}"},
        "examples": {name: {"value": {"model": "bundled-x4", **v}} for name, v in examples.items()},
    }


_BODIES = {
    "multipart/form-data": _taken(
        "EditForm", {"a file": {"image": "@examples/sample.png", "scale_factor": 2}}
    ),
    "application/json": _taken(
        "Edit",
        {
            "a data URI": {"image": PICTURE, "scale_factor": 4},
            "a width": {"image": PICTURE, "target_width": 20},
            "the file in the reply": {
                "images": [{"image_url": PICTURE}],
                "response_format": "b64_json",
                "output_format": "webp",
            },
        },
    ),
    "application/x-www-form-urlencoded": _taken(
        "EditFields", {"a data URI": {"image_url": PICTURE, "scale_factor": 2}}
    ),
}


_URL = "http://127.0.0.1:8000" + EDITS
_SAMPLE = "-F model=bundled-x4 -F image=@examples/sample.png"

PATHS = {
    EDITS: {
        "post": {
            "operationId": "editImage",
            "summary": "Upscale an image",
            "description": _DESCRIPTION,
            "parameters": [
                switch("dryRun", _DRY, bare=True),
                switch("dry_run", _OTHER, bare=True),
                switch("dry-run", _OTHER, bare=True),
            ],
            "requestBody": {"required": True, "content": _BODIES},
            "responses": {
                "200": reply(
                    "The result, or what a run would cost",
                    {
                        "application/json": {
                            "schema": {
                                "anyOf": [
                                    {"$ref": "#/components/schemas/Result"},
                                    {"$ref": "#/components/schemas/DryRun"},
                                ]
                            },
                            "examples": {
                                "a result": {"value": _RESULT},
                                "a dry run": {"value": _DRY_RUN},
                            },
                        }
                    },
                ),
                **failures(404, 413, 415, 429, 507),
            },
            "x-codeSamples": [
                {"lang": "shell", "source": f"curl {_URL} {_SAMPLE} -F scale_factor=2"},
                {
                    "lang": "shell",
                    "source": f"curl '{_URL}?dryRun=true' {_SAMPLE} -F target_megapixels=2",
                },
            ],
        }
    }
}
