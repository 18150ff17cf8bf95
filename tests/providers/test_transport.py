"""What is sent where: one paid call, exact failures, trust in URLs, secrets."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.providers.tools import KEYS, FastClock, settings_for
from upscale.providers.body import Body, Sending, file_body, form_body, json_body
from upscale.providers.download import download
from upscale.providers.outcome import Failure, Kind
from upscale.providers.site import Site
from upscale.providers.sites import site_of
from upscale.providers.transport import Reply, Transport
from upscale.settings import Settings


@contextmanager
def raw_server(answer: Any) -> Iterator[tuple[str, list[bytes]]]:
    """A server that hands each connection to `answer(connection)`."""
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(10)
            with connection:
                got.append(b"")
                answer(connection, got)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", got
    finally:
        stop.set()
        thread.join(20)
        listener.close()


def transport(url: str, **more: Any) -> Transport:
    return Transport(site_of("replicate", settings_for(replicate=url)), **more)


def paid(url: str, body: Body) -> Reply:
    async def once() -> Reply:
        return await transport(url).paid(f"{url}/v1/predictions", body)

    return asyncio.run(once())


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_body_that_was_not_handed_over_was_not_sent(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (64 << 20))

    def answer(connection: socket.socket, got: list[bytes]) -> None:
        got[-1] += connection.recv(1 << 16)
        _reset(connection)

    with raw_server(answer) as (url, got):
        with pytest.raises(Failure) as caught:
            paid(url, file_body(large, "image/png"))
        assert caught.value.kind is Kind.UNREACHED
        assert len(got) == 1


def test_a_body_that_was_handed_over_is_in_doubt() -> None:
    def answer(connection: socket.socket, got: list[bytes]) -> None:
        while b"}" not in got[-1]:
            got[-1] += connection.recv(1 << 16)

    with raw_server(answer) as (url, got):
        with pytest.raises(Failure) as caught:
            paid(url, json_body({"input": {}}))
        assert (caught.value.kind, caught.value.billed) == (Kind.IN_DOUBT, "maybe")
        assert len(got) == 1


def test_an_early_refusal_is_read_although_the_body_was_not(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (16 << 20))

    def answer(connection: socket.socket, got: list[bytes]) -> None:
        connection.recv(1 << 12)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass

    with raw_server(answer) as (url, _):
        assert paid(url, file_body(large, "image/png")).status == 413


def test_a_reply_that_breaks_off_says_so() -> None:
    def answer(connection: socket.socket, got: list[bytes]) -> None:
        while b"}" not in got[-1]:
            got[-1] += connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 90\r\nX-Id: 7\r\n\r\n{")

    with raw_server(answer) as (url, _):
        reply = paid(url, json_body({}))
    assert (reply.status, reply.cut, reply.headers["x-id"]) == (201, True, "7")


def test_the_last_byte_comes_alone(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"y" * 200_000)
    body = form_body({"a": True, 'q"\r\n': 4}, "image", file, "n.png", "image/png")

    async def read() -> list[bytes]:
        sending, pieces = Sending(body), []
        async for piece in sending:
            pieces.append(piece)
            assert sending.complete is (sum(map(len, pieces)) == sending.length)
        return pieces

    pieces = asyncio.run(read())
    assert sum(map(len, pieces)) == body.length
    assert len(pieces[-1]) == 1
    text = b"".join(pieces)
    assert b'name="a"\r\n\r\ntrue\r\n' in text
    assert b'name="q%22%0D%0A"' in text


def test_free_calls_are_repeated_with_growing_pauses() -> None:
    answers = [b"503 A", b"429 B", b"200 OK"]

    def answer(connection: socket.socket, got: list[bytes]) -> None:
        got[-1] += connection.recv(1 << 16)
        status = answers[len(got) - 1]
        extra = b"Retry-After: 3\r\n" if status.startswith(b"429") else b""
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + extra + b"Content-Length: 2\r\n\r\n{}")

    clock = FastClock()
    with raw_server(answer) as (url, got):

        async def once() -> Reply:
            ours = transport(url, clock=clock.clock)
            try:
                return await ours.free("GET", f"{url}/v1/predictions/1")
            finally:
                await ours.aclose()

        assert asyncio.run(once()).status == 200
        assert len(got) == 3
    assert clock.skipped == pytest.approx(3.5)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}.evil.example/v1/x",
        "http://localhost:{port}/v1/x",
        "https://api.replicate.com.evil.example/v1",
        "https://api.replicate.com/v1/x",
        "ftp://127.0.0.1/x",
        "no url",
    ],
)
def test_the_key_goes_nowhere_else(url: str) -> None:
    def answer(connection: socket.socket, got: list[bytes]) -> None:
        got[-1] += connection.recv(1 << 16)

    with raw_server(answer) as (base, got):
        wrong = url.format(port=base.rsplit(":", 1)[1])

        async def once() -> None:
            ours = transport(base)
            with pytest.raises(Failure):
                await ours.paid(wrong, json_body({}))
            with pytest.raises(Failure):
                await ours.free("GET", wrong)

        asyncio.run(once())
        assert not got


def fal(**more: Any) -> Site:
    return site_of("fal", Settings(fal_key=KEYS["fal"], **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://v3.fal.media/files/a.png", True),
        ("https://v3b.fal.media:443/files/a.png?x=1", True),
        ("https://storage.googleapis.com/falserverless/a.png", True),
        ("https://storage.googleapis.com/other/a.png", False),
        ("https://storage.googleapis.com/falserverless/../other/a.png", False),
        ("http://v3.fal.media/files/a.png", False),
        ("https://v3.fal.media:8443/files/a.png", False),
        ("https://fal.media.evil.example/a.png", False),
        ("https://evilfal.media/a.png", False),
        ("https://mine.example/a.png", True),
    ],
)
def test_files_come_from_the_providers_hosts(url: str, good: bool) -> None:
    barred = fal(provider_hosts="mine.example").bars_file(httpx.URL(url))
    assert (barred is None) is good


def test_urls_of_replies_are_believed_where_they_are_the_apis() -> None:
    site = fal()
    good = "https://queue.fal.run/fal-ai/esrgan/requests/1/status"
    assert site.api_url(good) == good
    base = fal(fal_base_url="http://proxy:9/fal/")
    assert base.api_url(good) == "http://proxy:9/fal/queue/fal-ai/esrgan/requests/1/status"
    assert base.api_url("http://proxy:9/fal/queue/x") == "http://proxy:9/fal/queue/x"
    for bad in (
        "http://queue.fal.run/x",
        "https://queue.fal.run:444/x",
        "https://user@queue.fal.run/x",
        "https://evil.example/x",
        "http://proxy:9/other/x",
        "http://proxy:9/fal/queue/../../x",
        7,
        None,
    ):
        assert base.api_url(bad) is None, bad
        assert site.api_url(bad) is None, bad


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1"])
def test_addresses_are_checked_after_resolution(address: str, tmp_path: Path) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return [address]

    async def once() -> None:
        ours = Transport(fal(), resolver=resolver)
        await download(ours, "https://v3.fal.media/a.png", tmp_path / "a", max_bytes=10)

    with pytest.raises(Failure, match="private or reserved"):
        asyncio.run(once())


def test_words_of_providers_are_scrubbed() -> None:
    site = fal()
    text = site.scrub(
        f"bad key {KEYS['fal']} and {KEYS['fal'].split(':')[1]} for "
        "https://v3.fal.media/a?signature=sesame\x1b[31m " + "x" * 900
    )
    assert len(text) == 500
    for secret in (*KEYS["fal"].split(":"), "sesame", "\x1b"):
        assert secret not in text
    for key in (KEYS["fal"], f"{KEYS['fal']}:"):
        coded = base64.b64encode(key.encode()).decode()
        assert coded not in site.scrub(f"bad header Basic {coded}")


def test_waits_are_read_in_both_forms() -> None:
    def wait(said: str) -> float | None:
        return Reply(429, httpx.Headers({"retry-after": said}), b"").retry_after(1_000_000.0)

    assert wait("7") == 7
    assert wait("Mon, 12 Jan 1970 13:46:50 GMT") == 10
    assert wait("soon") is None
    assert wait("1e999") is None
    assert wait("9" * 401) is None
    assert Reply(429, httpx.Headers(), b"").retry_after(0) is None
