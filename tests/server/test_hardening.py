"""The server under those who mean no good, and under many who do."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tests.server.fake import FakeEngine
from tests.server.live import EDITS, Live, picture, png, serving
from tests.server.test_disconnect import wait_until_clean
from upscale.engine.order import JobOrder
from upscale.settings import Settings

MODEL = {"model": "bundled-x4"}


def raw(
    live: Live, body: bytes, length: int, *, kind: str = "multipart/form-data; boundary=b"
) -> bytes:
    """What the server answers to a body of which `length` bytes were promised."""
    head = (
        f"POST {EDITS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", httpx.URL(live.url).port or 0)) as connection:
        connection.sendall(head.encode() + body)
        if len(body) < length:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def bodies() -> Iterator[tuple[str, bytes]]:
    files = {"image": ("a.png", png(), "image/png")}
    fields = {**MODEL, "scale_factor": "2", "n": "1"}
    request = httpx.Request("POST", "http://a", data=fields, files=files)
    yield request.headers["content-type"], request.read()
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    request = httpx.Request("POST", "http://a", json={**fields, "image": uri})
    yield request.headers["content-type"], request.read()
    request = httpx.Request("POST", "http://a", data={**fields, "image": uri})
    yield request.headers["content-type"], request.read()


@pytest.mark.parametrize("promised", [True, False], ids=["broken off", "short"])
def test_bodies_cut_anywhere_are_refused_and_leave_nothing(live: Live, promised: bool) -> None:
    dice = random.Random(7)
    for kind, body in bodies():
        for cut in {0, 1, len(body) - 1, *(dice.randrange(len(body)) for _ in range(12))}:
            answer = raw(live, body[:cut], len(body) if promised else cut, kind=kind)
            status = answer[9:12]
            # An urlencoded form has no end of its own: cut short it may still be one. A multipart
            # body needs no line break after its last boundary.
            whole = not promised and ("urlencoded" in kind or cut >= len(body) - 2)
            fine = (b"400", b"200") if whole else (b"400", b"499", b"")
            assert status in fine, (kind, cut, answer[:200])
    wait_until_clean(live)


def test_slow_clients_keep_nobody_waiting(live: Live) -> None:
    kind, body = next(bodies())
    head = (
        f"POST {EDITS} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    address = ("127.0.0.1", httpx.URL(live.url).port or 0)
    slow = [socket.create_connection(address) for _ in range(40)]
    try:
        for index, connection in enumerate(slow):
            connection.sendall((head.encode() + body)[: 20 * index + 1])
        assert live.edit(MODEL).status_code == 200
        # One of them goes on, a byte at a time, and gets what it asked for.
        rest = (head.encode() + body)[20 * 39 + 1 :]
        for index in range(len(rest)):
            slow[-1].sendall(rest[index : index + 1])
        slow[-1].settimeout(30)
        assert slow[-1].recv(1 << 16).startswith(b"HTTP/1.1 200")
    finally:
        for connection in slow:
            connection.close()
    wait_until_clean(live)


class Mirror(FakeEngine):
    """Gives the colour of the first pixel that came."""

    async def make(self, job: JobOrder) -> None:
        await asyncio.to_thread(self._draw, job)

    def _draw(self, job: JobOrder) -> None:
        with Image.open(job.source) as came:
            colour = came.convert("RGB").getpixel((0, 0))
        output = job.plan.output
        assert isinstance(colour, tuple)
        Image.new("RGB", (output.width, output.height), colour).save(job.target, output.format)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("mirror"), queue_limit=64)
    with serving(settings, Mirror(settings)) as live:
        yield live


def one_of_many(live: Live, index: int) -> None:
    """A request unlike the others, and a check that its reply is its own."""
    width, height = 8 + index % 32, 8 + index // 32
    colour = (index % 256, index // 256 * 40, 255 - index % 256)
    file = BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "png")
    fields = {**MODEL, "scale_factor": "1" if index % 5 else "2"}
    fields["output_format"] = ("png", "webp", "jpeg", "gif", "tiff")[index % 5]
    if index % 2:
        fields["response_format"] = "b64_json"
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    upload = {"image": ("a.png", file.getvalue(), "image/png")}
    if index % 3 == 0:
        reply = live.client.post(EDITS, data=fields, files=upload)
    elif index % 3 == 1:
        reply = live.client.post(EDITS, json={**fields, "image": uri})
    else:
        reply = live.client.post(EDITS, data={**fields, "image": uri})
    assert reply.status_code == 200, reply.text
    entry = reply.json()["data"][0]
    if "url" in entry:
        result = live.client.get(entry["url"]).content
    else:
        result = base64.b64decode(entry["b64_json"])
    factor = int(fields["scale_factor"])
    with Image.open(BytesIO(result)) as image:
        assert image.size == (width * factor, height * factor)
        got = image.convert("RGB").getpixel((3, 3))
    assert isinstance(got, tuple)
    assert max(abs(a - b) for a, b in zip(got, colour, strict=True)) <= 6, (index, got, colour)


def test_many_at_once_get_each_their_own(mirror: Live) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda index: one_of_many(mirror, index), range(64)))


@pytest.mark.slow
def test_a_thousand_requests_leave_nothing_behind(mirror: Live) -> None:
    process = psutil.Process()

    def held() -> tuple[int, int, int]:
        wait_until_clean(mirror)
        gc.collect()
        return process.num_fds(), threading.active_count(), process.memory_info().rss

    def run(indices: range) -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda index: one_of_many(mirror, index), indices))

    run(range(200))  # pools fill, modules load
    files, threads, memory = held()
    run(range(1000))
    more_files, more_threads, more_memory = held()
    assert more_files <= files + 4
    assert more_threads <= threads + 4
    assert more_memory - memory < 48 << 20
    [own] = (mirror.settings.data_dir / "spool").iterdir()
    assert [path.name for path in own.iterdir()] == ["lock"]


class Heart:
    """The longest that one callback kept an event loop's thread busy, in seconds of its CPU time.

    CPU time, since a busy machine may stop any thread for long; a lock or a slow disk is not seen.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest, self.culprit = 0.0, ""
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            took = time.thread_time() - begun
            if took > self.longest:
                self.longest, self.culprit = took, repr(handle)[:300]

        monkeypatch.setattr(asyncio.Handle, "_run", timed)


@pytest.fixture(scope="module")
def sizeable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("sizeable"), max_body_bytes=128 << 20)
    with serving(settings, Mirror(settings)) as live:
        yield live


def unit() -> float:
    """Seconds of CPU time for hashing 16 MB: what a loop must not do itself, and this machine's
    measure."""
    data = bytes(16 << 20)
    begun = time.thread_time()
    hashlib.sha256(data).digest()
    return time.thread_time() - begun


@pytest.mark.parametrize("way", ["file", "data URI in a form", "data URI in JSON", "urlencoded"])
def test_large_bodies_do_not_hold_up_the_loop(
    sizeable: Live, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    # What follows the end of a PNG is no part of the picture.
    data = picture("png", (64, 64)) + random.Random(1).randbytes(24 << 20)
    fields: dict[str, Any] = {**MODEL, "scale_factor": "1"}
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    request = {
        "file": lambda: {"data": fields, "files": {"image": ("a.png", data)}},
        "data URI in a form": lambda: {"data": fields, "files": {"image": (None, uri)}},
        "data URI in JSON": lambda: {"json": {**fields, "image": uri}},
        "urlencoded": lambda: {
            "content": f"model=bundled-x4&scale_factor=1&image={uri.replace('+', '%2B')}".encode(),
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        },
    }[way]()
    heart = Heart(monkeypatch)
    reply = sizeable.client.post(EDITS, **request)
    assert reply.status_code == 200, reply.text
    assert heart.longest < max(0.05, unit()), heart.culprit


def test_large_results_do_not_hold_up_the_loop(
    sizeable: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = {"image": ("a.png", picture("png", (512, 512)), "image/png")}
    # Pillow writes TIFF without compression: 12 MB.
    fields = {**MODEL, "scale_factor": "4", "output_format": "tiff"}
    heart = Heart(monkeypatch)
    for more in ({"response_format": "b64_json", "n": "4"}, {}):
        reply = sizeable.client.post(EDITS, data={**fields, **more}, files=upload)
        assert reply.status_code == 200, reply.text
        assert len(reply.content) > 10_000_000 or not more
    assert len(sizeable.client.get(reply.json()["data"][0]["url"]).content) > 10_000_000
    assert heart.longest < max(0.05, unit()), heart.culprit
