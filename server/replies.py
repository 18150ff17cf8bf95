"""Bodies of successful replies: the result of an edit, and of a dry run."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from starlette.responses import JSONResponse, Response, StreamingResponse

from upscale.engine.plan import Plan
from upscale.engine.receipt import Receipt
from upscale.models.quote import MICROS, Quote
from upscale.server.ids import random_token

# Divisible by three, so that pieces of base64 join without padding.
_PIECE = 3 << 16

INLINE = "b64_json"


def metadata(model: str, plan: Plan, cost_micros: int, receipt: Receipt) -> dict[str, Any]:
    """Who did it, what it cost (USD), and the receipt."""
    return {
        "model": model,
        "executed_model": f"local/{plan.network.name}",
        "provider": "local",
        "provider_name": "Local",
        "cost": cost_micros / MICROS,
        "cost_currency": "USD",
        "receipt": receipt.to_json(),
    }


def result(plan: Plan, n: int, url: str | None, about: dict[str, Any]) -> dict[str, Any]:
    """The body with `n` times the same link: a deterministic network runs once. Without a link
    there is room for the file instead, which `inlined` fills.
    """
    entry: dict[str, Any] = {INLINE: None} if url is None else {"url": url}
    return {
        "created": int(time.time()),
        "size": f"{plan.width}x{plan.height}",
        "data": [entry] * n,
        "metadata": about,
    }


def inlined(body: Any, file: BinaryIO) -> Response:
    """`body` with the open file, in base64, wherever there is room for it; encoded as it is sent,
    its name may be removed meanwhile.
    """
    size = os.fstat(file.fileno()).st_size
    mark = random_token()  # nobody can know it beforehand, so nothing else is taken for it
    text = json.dumps(_marked(body, mark), separators=(",", ":"))
    texts = [part.encode() for part in text.split(f'"{mark}"')]
    encoded = len('""') + (size + 2) // 3 * 4
    length = sum(map(len, texts)) + (len(texts) - 1) * encoded
    return StreamingResponse(
        _pieces(file, texts),
        media_type="application/json",
        headers={"Content-Length": str(length)},
    )


def dry_run_reply(model: str, plan: Plan, quote: Quote) -> Response:
    """What a run would cost, and the plan of it."""
    return JSONResponse(
        {
            "estimated": True,
            "model": model,
            "provider": "local",
            "total_cost_micros": quote.micros,
            "currency": "USD",
            "components": [component.to_json() for component in quote.components],
            "plan": _shown(plan),
        }
    )


def _marked(value: Any, mark: str) -> Any:
    if isinstance(value, dict):
        return {
            name: mark if name == INLINE and inner is None else _marked(inner, mark)
            for name, inner in value.items()
        }
    return [_marked(inner, mark) for inner in value] if isinstance(value, list) else value


def _pieces(file: BinaryIO, texts: list[bytes]) -> Iterator[bytes]:
    with file:
        first, *others = texts
        yield first
        for text in others:
            file.seek(0)
            yield b'"'
            while piece := file.read(_PIECE):
                yield base64.b64encode(piece)
            yield b'"' + text


def _shown(plan: Plan) -> dict[str, Any]:
    """The plan without the places of files on this machine."""
    shown = plan.to_json()
    network = {k: v for k, v in shown["network"].items() if k not in ("path", "blend_path")}
    return {
        **shown,
        "network": network,
        "size": f"{plan.width}x{plan.height}",
        "tiles": plan.tiles,
        "expected_bytes": plan.expected_bytes,
    }
