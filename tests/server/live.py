"""A real server on loopback, in a thread of the test process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx
import uvicorn
from PIL import Image

from tests.server.fake import FakeEngine
from upscale.server.app import create_app
from upscale.server.protocol import Protocol
from upscale.server.services import UpscaleEngine
from upscale.server.spool import Spool
from upscale.settings import Settings

EDITS = "/openai/v1/images/edits"


@dataclass
class Live:
    """A running server: its address, its engine, its settings, a client for it, its spool."""

    url: str
    engine: FakeEngine
    settings: Settings
    client: httpx.Client
    spool: Spool

    def edit(self, data: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """A multipart edit of a small PNG with real-esrgan, changed by what is given."""
        fields = {"model": "real-esrgan", **(data or {})}
        more.setdefault("files", {"image": ("a.png", png(), "image/png")})
        return self.client.post(EDITS, data=fields, **more)


@contextmanager
def serving(settings: Settings, real: UpscaleEngine | None = None) -> Iterator[Live]:
    """Serve with a fake engine, or the `real` one, until the context ends."""
    engine = FakeEngine(settings)
    # The protocol is named: asyncio switches delays off for sockets that say they are TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(settings, real or engine)
        config = uvicorn.Config(
            app,
            http=Protocol,
            log_config=None,
            access_log=False,
            lifespan="on",
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=30) as client:
            try:
                yield Live(url, engine, settings, client, app.state.services.spool)
            finally:
                client.close()
                server.should_exit = True
                thread.join(20)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Until it holds; fails after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def picture(format: str = "png", size: tuple[int, int] = (12, 8), mode: str = "RGB") -> bytes:
    """A small picture as a file."""
    file = BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(file, format)
    return file.getvalue()


def png(size: tuple[int, int] = (12, 8)) -> bytes:
    """A small PNG."""
    return picture("png", size)


def check_error(
    response: httpx.Response, status: int, code: str = "INVALID_REQUEST", param: str | None = None
) -> str:
    """Assert the one shape of errors; returns the message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert (error["code"], error["param"]) == (code, param), error
    assert "Traceback" not in error["message"]
    check_headers(response)
    return str(error["message"])


def check_headers(response: httpx.Response) -> None:
    """Assert the headers that every reply has."""
    identity = response.headers["x-request-id"]
    assert identity == response.headers["X-Lumenfall-Request-Id"]
    assert identity.startswith("req_")
    assert len(identity) == 31
    assert identity[4:].isalnum()
    assert response.headers["X-Lumenfall-Provider"]
    assert response.headers["X-Lumenfall-Model"]
