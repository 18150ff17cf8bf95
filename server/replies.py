"""Bodies of successful replies: the result of an edit, and of a dry run."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from starlette.responses import Response, StreamingResponse

from upscale.engine.plan import Plan
from upscale.models.quote import MICROS, Component
from upscale.server.ids import random_token

# Divisible by three, so that pieces of base64 join without padding.
_PIECE = 3 << 16

INLINE = "b64_json"


@dataclass(frozen=True)
class Executed:
    """Who did it: `model` is as replies call it, `provider` and `name` say where."""

    model: str
    provider: str
    name: str

    @classmethod
    def here(cls, network: str) -> Executed:
        """A network of this machine."""
        return cls(f"local/{network}", "local", "Local")


def metadata(
    model: str, executed: Executed, cost_micros: int | None, receipt: dict[str, Any]
) -> dict[str, Any]:
    """Who did it, what it cost (USD) where that is known, and the receipt."""
    cost = {} if cost_micros is None else {"cost": cost_micros / MICROS, "cost_currency": "USD"}
    return {
        "model": model,
        "executed_model": executed.model,
        "provider": executed.provider,
        "provider_name": executed.name,
        **cost,
        "receipt": receipt,
    }


def result(
    size: tuple[int, int], n: int, urls: Sequence[str] | None, about: dict[str, Any]
) -> dict[str, Any]:
    """The body with `n` links, or `n` times the one link: a deterministic network runs once.
    Without links there is room for files instead, which `inlined` fills.
    """
    entries: list[dict[str, Any]] = [{INLINE: None}] if urls is None else [{"url": u} for u in urls]
    return {
        "created": int(time.time()),
        "size": f"{size[0]}x{size[1]}",
        "data": entries if len(entries) == n else entries * n,
        "metadata": about,
    }


def inlined(body: Any, files: Sequence[BinaryIO]) -> Response:
    """`body` with the open files, in base64, where there is room for them, one by one or the one
    file everywhere; encoded as it is sent, their names may be removed meanwhile.
    """
    mark = random_token()  # nobody can know it beforehand, so nothing else is taken for it
    text = json.dumps(_marked(body, mark), separators=(",", ":"))
    texts = [part.encode() for part in text.split(f'"{mark}"')]
    places = [files[index % len(files)] for index in range(len(texts) - 1)]
    sizes = [len('""') + (os.fstat(file.fileno()).st_size + 2) // 3 * 4 for file in places]
    return StreamingResponse(
        _pieces(places, texts),
        media_type="application/json",
        headers={"Content-Length": str(sum(map(len, texts)) + sum(sizes))},
    )


def estimate(
    model: str, provider: str, micros: int | None, components: Sequence[Component]
) -> dict[str, Any]:
    """The body of a dry run: what a run would cost, where that is known."""
    return {
        "estimated": True,
        "model": model,
        "provider": provider,
        **({} if micros is None else {"total_cost_micros": micros}),
        "currency": "USD",
        "components": [component.to_json() for component in components],
    }


def _marked(value: Any, mark: str) -> Any:
    if isinstance(value, dict):
        return {
            name: mark if name == INLINE and inner is None else _marked(inner, mark)
            for name, inner in value.items()
        }
    return [_marked(inner, mark) for inner in value] if isinstance(value, list) else value


def _pieces(files: Sequence[BinaryIO], texts: list[bytes]) -> Iterator[bytes]:
    try:
        first, *others = texts
        yield first
        for file, text in zip(files, others, strict=True):
            file.seek(0)
            yield b'"'
            while piece := file.read(_PIECE):
                yield base64.b64encode(piece)
            yield b'"' + text
    finally:
        for file in files:
            file.close()


def shown_plan(plan: Plan) -> dict[str, Any]:
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
