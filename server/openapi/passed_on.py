"""Image requests that others answer: passed on as they come, their replies as they come back."""

from __future__ import annotations

from typing import Any

from upscale.server.openapi.operations import failures, reply

_DESCRIPTION = """\
For a server of the house (`UPSCALE_PASSTHROUGH_BASE_URL`) or the hosted gateway, where the \
operator gave its key; otherwise 404. The body goes there as it came, and what comes back is \
handed on, errors included. It is recorded as every request is; a key's limits and models count."""

_BODY: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a lighthouse", "n": 1}
_MADE = {"created": 1795591222, "data": [{"b64_json": "iVBORw0KGgo="}]}


def _passed_on(identity: str, summary: str, example: dict[str, Any]) -> dict[str, Any]:
    schema = {"schema": {"$ref": "#/components/schemas/PassedOn"}}
    answer = {"type": "object", "additionalProperties": True}
    return {
        "post": {
            "operationId": identity,
            "summary": summary,
            "description": _DESCRIPTION,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {**schema, "examples": {"one": {"value": example}}},
                    "multipart/form-data": {**schema, "examples": {"one": {"value": example}}},
                },
            },
            "responses": {
                "200": reply(
                    "What the other server answers",
                    {"application/json": {"schema": answer, "examples": {"one": {"value": _MADE}}}},
                ),
                **failures(401, 402, 404, 413, 429, 499, 502, 504),
            },
        }
    }


PATHS = {
    "/openai/v1/images/generations": _passed_on(
        "passOnGeneration", "Have another server make an image", _BODY
    ),
    "/openai/v1/images/variations": _passed_on(
        "passOnVariation",
        "Have another server vary an image",
        {"model": "dall-e-2", "image": "@examples/sample.png"},
    ),
}
