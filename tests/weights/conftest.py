"""A web server on loopback that misbehaves as told, and small checkpoints, made without torch."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from upscale.weights.headers import Limits
from upscale.weights.known import KnownFile
from upscale.weights.pull import Puller, PullOptions
from upscale.weights.store import Store

LIMITS = Limits(bytes=1 << 30, parameters=10**9)


def safetensors(numbers: int = 100_000, seed: int = 0) -> bytes:
    """A proper safetensors file with one tensor of so many 32-bit numbers."""
    content = hashlib.shake_256(bytes([seed])).digest(4 * numbers)
    entry = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"a.weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + content


@dataclass
class Reply:
    """How one request is answered. `cut` closes the connection after so many bytes of the body,
    `stall` stops there and waits; `claim` is a Content-Length that may be a lie, `chunked` sends
    none; `ranges` says whether a range is served; `skip` shifts what a range brings.
    """

    content: bytes = b""
    status: int = 200
    cut: int | None = None
    stall: bool = False
    drip: bool = False
    claim: int | None = None
    chunked: bool = False
    ranges: bool = True
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """One request that came."""

    path: str
    headers: dict[str, str]


class Site:
    """A web server. `replies` are used one after the other, the last of them for ever; a path in
    `paths` is answered from there instead.
    """

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.paths: dict[str, Reply] = {}
        self.seen: list[Seen] = []
        self.released = threading.Event()
        self.on_request: Callable[[], None] = lambda: None
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(Seen(handler.path, {k.lower(): v for k, v in handler.headers.items()}))
        self.on_request()
        reply = self.paths.get(handler.path)
        if reply is None:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        body, status, extra = reply.content, reply.status, dict(reply.headers)
        wanted = handler.headers.get("Range", "")
        condition = handler.headers.get("If-Range")
        tag = extra.get("ETag") or extra.get("Last-Modified")
        if wanted and status == 200 and reply.ranges and condition in (None, tag):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            whole = len(body)
            if start >= whole:
                body, status = b"", 416
                extra["Content-Range"] = f"bytes */{whole}"
            else:
                start += reply.skip
                body, status = body[start:], 206
                extra["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        handler.send_response(status)
        for name, value in extra.items():
            handler.send_header(name, value)
        if reply.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            claim = len(body) if reply.claim is None else reply.claim
            handler.send_header("Content-Length", str(claim))
        handler.end_headers()
        try:
            self._send(handler, reply, body)
        except OSError:
            handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply, body: bytes) -> None:
        sent = body if reply.cut is None else body[: reply.cut]
        if reply.chunked:
            for at in range(0, len(sent), 1 << 16):
                piece = sent[at : at + (1 << 16)]
                handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if reply.cut is None:
                handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.wfile.write(sent)
        handler.wfile.flush()
        while reply.drip and not self.released.wait(0.02):
            handler.wfile.write(b"\0")
        if reply.stall:
            self.released.wait(30)
        if reply.cut is not None or reply.claim is not None or reply.stall or reply.drip:
            handler.close_connection = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The web server, and no proxy before it."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Site()
    yield server
    server.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "weights")


def puller(store: Store, **options: object) -> Puller:
    """A puller that does not pause between attempts."""
    plain: dict[str, object] = {"limits": LIMITS, "pause": lambda _: None, "stall_seconds": 5.0}
    return Puller(store, PullOptions(**{**plain, **options}))  # type: ignore[arg-type]


def known(site: Site, content: bytes | None, **facts: object) -> KnownFile:
    """A known file that lies on the server; its size and hash are those of `content`, if given."""
    plain: dict[str, object] = {
        "id": "net-a",
        "file": "net-a.safetensors",
        "url": f"{site.url}/net-a.safetensors",
        "licence": "MIT",
        "author": "somebody",
        "commercial": True,
        "scale": 4,
    }
    if content is not None:
        plain |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return KnownFile(**{**plain, **facts})  # type: ignore[arg-type]
