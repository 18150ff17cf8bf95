"""`GET /openapi.json` and `GET /docs`: the description of the API, and a page of it for people.

The page is plain HTML made here: no script, nothing loaded from elsewhere, so that it works where
there is no internet.
"""

from __future__ import annotations

import json
from functools import lru_cache
from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from upscale.server.openapi import document

router = APIRouter()

_READ = ["GET", "HEAD"]
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { background: #8881; padding: .6rem; overflow-x: auto; white-space: pre-wrap;
      overflow-wrap: anywhere }
table { border-collapse: collapse } td, th { padding: .2rem .6rem; text-align: left;
      vertical-align: top; border-bottom: 1px solid #8884 }
h2 { margin-top: 2.5rem } summary { cursor: pointer }
:root { color-scheme: light dark }
"""


@router.api_route("/openapi.json", methods=_READ, response_model=None)
async def openapi_json(request: Request) -> Response:
    """The description, for programs."""
    return JSONResponse(document())


@router.api_route("/docs", methods=_READ, response_model=None)
async def docs(request: Request) -> Response:
    """The description, for people."""
    csp = "default-src 'none'; style-src 'unsafe-inline'"
    return HTMLResponse(_page(), headers={"Content-Security-Policy": csp})


@lru_cache(maxsize=1)
def _page() -> str:
    described = document()
    info = described["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} For programs: <a href=openapi.json>openapi.json</a>.",
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts += _operation(operation, described["components"]["schemas"])
    return "\n".join(parts)


def _operation(operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    parts = [f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}"]
    if operation.get("parameters"):
        rows = {
            p["name"]: {"description": p["in"], **p, **p["schema"]} for p in operation["parameters"]
        }
        parts.append(_table(rows))
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        parts.append(_table(schemas["Edit"]["properties"] | {"image": schemas["Image"]}))
    for kind, content in body.items():
        for name, example in content["examples"].items():
            parts.append(_shown(f"{kind}: {name}", example["value"]))
    for sample in operation.get("x-codeSamples", ()):
        parts.append(f"<pre>{escape(sample['source'])}</pre>")
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            examples = content.get("examples", {})
            if "example" in content:
                examples = {response["description"]: {"value": content["example"]}}
            parts += [_shown(f"{status} {name}", e["value"]) for name, e in examples.items()]
    return parts


def _table(rows: dict[str, dict[str, Any]]) -> str:
    cells = (
        f"<tr><td><code>{escape(name)}</code><td>{escape(_kind(row))}"
        f"<td>{escape(str(row.get('default', '')))}<td>{escape(row.get('description', ''))}"
        for name, row in rows.items()
    )
    return f"<table><tr><th>name<th>type<th>default<th>{''.join(cells)}</table>"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    return str(schema.get("type", "file, URL or data URI"))


def _shown(title: str, value: Any) -> str:
    text = escape(json.dumps(value, indent=1))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"
