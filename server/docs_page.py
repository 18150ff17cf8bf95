"""`GET /openapi.json` and `GET /docs`: the description of the API, and a page of it for people.

The page is plain HTML made here: no script, nothing loaded from elsewhere, so that it works where
there is no internet.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from upscale.server.openapi import document
from upscale.server.openapi.headers import STAMPS

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
    info, components = described["info"], described["components"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *(f"<p>{_prose(text)}" for text in info["description"].split("\n\n")),
        "<p>For programs: <a href=openapi.json>openapi.json</a>.",
    ]
    for path, methods in described["paths"].items():
        # HEAD is GET without the body, and has nothing of its own to tell.
        shown = {name: told for name, told in methods.items() if name != "head"}
        for method, operation in shown.items():
            names = "GET, HEAD" if method == "get" and "head" in methods else method.upper()
            parts.append(f"<h2><code>{names} {escape(path)}</code></h2>")
            parts += _operation(operation, components["schemas"])
    parts.append("<h2>Errors</h2>")
    for name, response in components["responses"].items():
        parts.append(f"<h3 id={name}>{name.removeprefix('Error')}</h3>")
        parts += _response(response)
    parts.append("<h2>Headers of replies</h2>")
    parts.append(_table({name: {**h, **h["schema"]} for name, h in components["headers"].items()}))
    return "\n".join(parts)


def _operation(operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    parts = [f"<p>{escape(operation['summary'])}. {_prose(operation.get('description', ''))}"]
    if operation.get("parameters"):
        rows = {
            p["name"]: {"description": f"In the {p['in']}.", **p, **p["schema"]}
            for p in operation["parameters"]
        }
        parts.append(_table(rows))
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        # Those of the first encoding: the others differ in how an image is sent, which is told.
        parts.append(_table(_named(next(iter(body.values()))["schema"], schemas)["properties"]))
    for kind, content in body.items():
        for name, example in content["examples"].items():
            parts.append(_shown(f"{kind}: {name}", example["value"]))
    for sample in operation.get("x-codeSamples", ()):
        parts.append(f"<pre>{escape(sample['source'])}</pre>")
    failures = []
    for status, response in operation["responses"].items():
        if "$ref" in response:
            failures.append(f"<a href=#Error{status}>{status}</a>")
            continue
        parts.append(f"<h3>{status}</h3>")
        parts += _response(response)
    parts.append(f"<p>Errors: {', '.join(failures)}.")
    return parts


def _response(response: dict[str, Any]) -> list[str]:
    parts = [f"<p>{_prose(response['description'])}."]
    own = [name for name in response["headers"] if name not in STAMPS]
    if own:
        parts.append(f"<p>Headers: {', '.join(f'<code>{name}</code>' for name in own)}.")
    kinds = [kind for kind in response.get("content", {}) if kind != "application/json"]
    if kinds:
        parts.append(f"<p>Types: {', '.join(map(escape, kinds))}.")
    for content in response.get("content", {}).values():
        examples = content.get("examples", {})
        parts += [_shown(name, example["value"]) for name, example in examples.items()]
    return parts


def _table(rows: dict[str, dict[str, Any]]) -> str:
    cells = (
        f"<tr><td><code>{escape(name)}</code><td>{escape(_kind(row))}"
        f"<td>{escape(str(row.get('default', '')))}<td>{_prose(row.get('description', ''))}"
        for name, row in rows.items()
    )
    return f"<table><tr><th>name<th>type<th>default<th>{''.join(cells)}</table>"


def _named(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
    return found


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(filter(None, map(str, schema["enum"])))
    if schema.get("format") == "binary":
        return "file"
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    return str(schema["type"])


def _prose(text: str) -> str:
    """Text with `code` in it."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _shown(title: str, value: Any) -> str:
    text = escape(json.dumps(value, indent=1))
    return f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"
