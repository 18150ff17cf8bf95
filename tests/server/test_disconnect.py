"""A caller that goes away takes its Job with it; one that is slow does not."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx

from tests.server.live import EDITS, Live, png


def spooled(live: Live) -> list[Path]:
    [own] = (live.settings.data_dir / "spool").iterdir()
    return [path for path in own.iterdir() if path.is_dir()]


def wait_until_clean(live: Live) -> None:
    deadline = time.monotonic() + 5
    while spooled(live) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert spooled(live) == []


def test_closing_the_connection_cancels_the_job(live: Live) -> None:
    live.engine.held = True
    request = httpx.Request(
        "POST",
        f"{live.url}{EDITS}",
        data={"model": "real-esrgan"},
        files={"image": ("a.png", png(), "image/png")},
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", request.url.port or 0)) as connection:
        connection.sendall(f"POST {EDITS} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        assert live.engine.begun.wait(30)
    assert live.engine.cancelled.wait(30)
    wait_until_clean(live)
    live.engine.held = False
    assert live.edit().status_code == 200


def test_closing_it_during_the_upload_leaves_nothing(live: Live) -> None:
    port = httpx.URL(live.url).port or 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = (
            f"POST {EDITS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        )
        connection.sendall(head.encode() + png())
        deadline = time.monotonic() + 5
        while not spooled(live) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert spooled(live)
    wait_until_clean(live)
    assert not live.engine.jobs
