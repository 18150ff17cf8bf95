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
from upscale.models.quote import Quote

# Divisible by three, so that pieces of base64 join without padding.
_PIECE = 3 << 16


def metadata(model: str, plan: Plan, quote: Quote, receipt: Receipt) -> dict[str, Any]:
    """Who did it, what it cost (USD), and the receipt."""
    return {
        "model": model,
        "executed_model": f"local/{plan.network.name}",
        "provider": "local",
        "provider_name": "Local",
        "cost": quote.cost,
        "cost_currency": "USD",
        "receipt": receipt.to_json(),
    }


def url_reply(url: str, n: int, plan: Plan, about: dict[str, Any]) -> Response:
    """`n` times the same link: a deterministic network runs once."""
    return JSONResponse({**_head(plan), "data": [{"url": url}] * n, "metadata": about})


def base64_reply(file: BinaryIO, n: int, plan: Plan, about: dict[str, Any]) -> Response:
    """`n` times the open file itself, encoded as it is sent; its name may be removed meanwhile."""
    size = os.fstat(file.fileno()).st_size
    head = json.dumps({**_head(plan), "data": []}, separators=(",", ":"))[:-2].encode()
    tail = f'],"metadata":{json.dumps(about, separators=(",", ":"))}}}'.encode()
    entry = len(b'{"b64_json":""}') + (size + 2) // 3 * 4
    length = len(head) + n * entry + (n - 1) + len(tail)
    return StreamingResponse(
        _pieces(file, n, head, tail),
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


def _head(plan: Plan) -> dict[str, Any]:
    return {"created": int(time.time()), "size": f"{plan.width}x{plan.height}"}


def _pieces(file: BinaryIO, n: int, head: bytes, tail: bytes) -> Iterator[bytes]:
    with file:
        yield head
        for index in range(n):
            file.seek(0)
            yield b'{"b64_json":"' if index == 0 else b',{"b64_json":"'
            while piece := file.read(_PIECE):
                yield base64.b64encode(piece)
            yield b'"}'
        yield tail


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
