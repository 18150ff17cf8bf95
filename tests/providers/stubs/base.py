"""What the stubs share: a server in a thread, a host for files, faults, the ledger."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from typing import Any, ClassVar, TypeVar

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol


class CuttingProtocol(H11Protocol):
    """Lets an application cut the connection of a request."""

    live: ClassVar[dict[tuple[str, int], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.live[transport.get_extra_info("peername")[:2]] = transport


def cut(request: Request) -> None:
    """Close the connection of a request at once, without a reply."""
    client = request.scope["client"]
    CuttingProtocol.live[(client[0], client[1])].abort()


class Gone(Response):
    """Sends nothing: the connection was cut."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Nothing."""


class Half(Response):
    """A reply whose body breaks off after half of it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Headers and half of the body; the server then cuts the connection."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(0.05)
        CuttingProtocol.live[(scope["client"][0], scope["client"][1])].abort()


PAGE = 2
"""Jobs in a page of a list."""


class Drip(Response):
    """A reply that comes a byte at a time and hardly ends."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """A byte every twentieth of a second, for ten seconds at most."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        for at in range(min(200, len(self.body) - 1)):
            byte = bytes(self.body)[at : at + 1]
            await send({"type": "http.response.body", "body": byte, "more_body": True})
            await asyncio.sleep(0.05)
        CuttingProtocol.live[(scope["client"][0], scope["client"][1])].abort()


@dataclass
class Line:
    """One line of an invoice."""

    job: str
    units: Decimal
    amount: Decimal


@dataclass
class Job:
    """What a paid call made."""

    id: str
    endpoint: str
    sent: dict[str, Any]
    polls: int = 0
    cancelled: bool = False
    ended: bool = False
    result: bytes = b""
    size: tuple[int, int] = (0, 0)
    extra: dict[str, Any] = field(default_factory=dict)


class Stub:
    """One provider. `fault` is what goes wrong; `times` how often, where that matters."""

    auth: ClassVar[tuple[str, str]] = ("authorization", "Bearer {}")

    def __init__(self, key: str) -> None:
        self.key = key
        self.fault = ""
        self.times = 1 << 30
        self.polls = 2
        self.wait = "1"
        self.paid = 0
        self.jobs: dict[str, Job] = {}
        self.invoice: list[Line] = []
        self.calls: Counter[str] = Counter()
        self.uploads: dict[str, bytes] = {}
        self.wrong_keys: list[str] = []
        self.leaks: list[str] = []
        self.foreign = 0
        self.seen: list[dict[str, str]] = []
        self.url = ""
        self.files = ""
        self.polled = threading.Event()
        self.app = Starlette(
            routes=[
                Route("/files/{name:path}", self._file, methods=["GET"]),
                Route("/put/{name:path}", self._put, methods=["PUT"]),
                Route("/foreign", self._foreign, methods=["GET"]),
                *self.routes(),
            ]
        )

    def routes(self) -> list[Route]:
        """The provider's own."""
        raise NotImplementedError

    def now(self, *faults: str) -> bool:
        """Whether one of these faults is on; it is used up then."""
        if self.fault not in faults or self.times <= 0:
            return False
        self.times -= 1
        return True

    @property
    def billed(self) -> Decimal:
        """The sum of the invoice in USD."""
        return sum((line.amount for line in self.invoice), Decimal(0))

    def bill(self, job: Job, units: Decimal, amount: Decimal) -> None:
        """A line on the invoice, once for a job."""
        if all(line.job != job.id for line in self.invoice):
            self.invoice.append(Line(job.id, units, amount))

    def refuses(self, request: Request) -> Response | None:
        """What a request without the right key gets."""
        name, form = self.auth
        self.seen.append(dict(request.headers))
        if request.headers.get(name) == form.format(self.key):
            return None
        self.wrong_keys.append(str(request.url.path))
        return JSONResponse({"detail": "bad key"}, 401)

    def picture(self, size: tuple[int, int]) -> bytes:
        """A result of that size, or what the fault makes of it."""
        if self.fault == "wrong_size":
            size = (size[0] + 7, size[1])
        file = BytesIO()
        Image.new("RGB", size, (40, 90, 160)).save(file, "png")
        return file.getvalue()

    def link(self, name: str) -> str:
        """Where a result is."""
        if self.fault == "foreign_link":
            return f"http://localhost:{self.url.rsplit(':', 1)[1]}/foreign"
        if self.fault == "private_link":
            return "https://192.168.7.7/a.png"
        return f"{self.files}/files/{name}?signature=presigned-secret"

    async def _file(self, request: Request) -> Response:
        self._watch(request)
        self.calls["file"] += 1
        content = self.jobs[request.path_params["name"].split(".")[0]].result
        if self.now("redirect_foreign"):
            return RedirectResponse(f"http://localhost:{self.url.rsplit(':', 1)[1]}/foreign")
        if self.now("redirect") and "moved" not in request.query_params:
            return RedirectResponse(f"{request.url}&moved=1")
        if self.now("truncated"):
            return Half(content, media_type="image/png")
        if self.now("oversized"):
            return Response(content + b"\0" * (1 << 21), media_type="image/png")
        if self.now("file_drip"):
            return Drip(content + b"\0" * 400, media_type="image/png")
        if self.now("no_picture"):
            return Response(b"<html>gone</html>", media_type="text/html")
        if self.now("file_gone"):
            return Response(b"gone", 404)
        if self.now("file_503"):
            return Response(b"later", 503)
        return Response(content, media_type="image/png")

    async def _put(self, request: Request) -> Response:
        self._watch(request)
        self.calls["put"] += 1
        if self.now("put_500"):
            return Response(b"", 500)
        self.uploads[request.path_params["name"]] = await request.body()
        return Response(b"")

    async def _foreign(self, request: Request) -> Response:
        self._watch(request)
        self.foreign += 1
        return Response(self.picture((8, 8)), media_type="image/png")

    def _watch(self, request: Request) -> None:
        """A key has no business here."""
        for name, value in [*request.headers.items(), ("url", str(request.url))]:
            if self.key in value:
                self.leaks.append(name)


S = TypeVar("S", bound=Stub)


@contextmanager
def running(stub: S) -> Iterator[S]:
    """Serve a stub, its files on a second port, until the context ends."""
    servers = []
    try:
        for _ in range(2):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.bind(("127.0.0.1", 0))
            config = uvicorn.Config(
                stub.app, http=CuttingProtocol, log_config=None, access_log=False, lifespan="off"
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listener]}, daemon=True
            )
            thread.start()
            servers.append((server, thread, listener))
            while not server.started and thread.is_alive():
                time.sleep(0.005)
        stub.url, stub.files = (f"http://127.0.0.1:{s[2].getsockname()[1]}" for s in servers)
        yield stub
    finally:
        for server, _, _ in servers:
            server.should_exit = True
        for _, thread, listener in servers:
            thread.join(10)
            listener.close()


def size_of(content: bytes) -> tuple[int, int]:
    """Of a picture."""
    with Image.open(BytesIO(content)) as picture:
        return picture.size


def scaled(size: tuple[int, int], factor: object) -> tuple[int, int]:
    """Each side times the factor, halves upwards."""
    times = Decimal(str(factor))
    w, h = (int((side * times).quantize(Decimal(1), ROUND_HALF_UP)) for side in size)
    return w, h


def megapixels(size: tuple[int, int]) -> Decimal:
    """Of a picture."""
    return Decimal(size[0] * size[1]) / 1_000_000


Handler = Callable[[Request], Any]
