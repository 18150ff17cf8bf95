"""Bodies that have to be in memory as a whole."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import IO

import pytest
from starlette.requests import Request
from starlette.types import Message

from upscale.server import body
from upscale.server.forms import Form


def _request(content: bytes, kind: str = "application/json") -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": content}

    headers = [(b"content-type", kind.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
def test_large_bodies_are_parsed_one_at_a_time_and_small_ones_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    met: list[bool] = []

    def reader(barrier: threading.Barrier, seconds: float) -> None:
        def read(content: IO[bytes], folder: Path) -> Form:
            try:
                barrier.wait(seconds)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)
            return Form()

        monkeypatch.setattr(body, "_read_json", read)
        monkeypatch.setattr(body, "_read_urlencoded", read)

    async def two(size: int) -> None:
        large = asyncio.Lock()
        each = (
            body.read_form(_request(bytes(size), kind), tmp_path, 1 << 20, large=large)
            for _ in range(2)
        )
        await asyncio.gather(*each)

    monkeypatch.setattr(body, "_LARGE_BYTES", 1000)
    reader(threading.Barrier(2), 0.3)
    asyncio.run(two(1001))
    reader(threading.Barrier(2), 10)
    asyncio.run(two(1000))
    assert met == [False, False, True, True]


def test_a_large_body_waits_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_LARGE_BYTES", 1000)
    seen: list[object] = []

    def read(content: IO[bytes], folder: Path) -> Form:
        seen.append(vars(content)["_rolled"])
        return body_read(content, folder)

    body_read = body._read_json
    monkeypatch.setattr(body, "_read_json", read)
    text = b'{"model": "a", "prompt": "' + b"x" * 100_000 + b'"}'
    form = asyncio.run(body.read_form(_request(text), tmp_path, 1 << 20, large=asyncio.Lock()))
    assert seen == [True]
    assert form.fields["model"] == ["a"]
    # Nothing that long is of use, and it would stay in memory while the request waits.
    assert form.fields["prompt"] == ["x" * body.TEXT_BYTES]
