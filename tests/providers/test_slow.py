"""Deadlines hold, in real time, against providers that trickle a byte now and then."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.providers.rig import Rig
from tests.providers.stubs.base import Stub
from tests.providers.test_transport import raw_server, transport
from upscale.providers import adapter, queued
from upscale.providers.body import json_body
from upscale.providers.outcome import Failure, Kind


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "LATE_SECONDS", 0.3)
    monkeypatch.setattr(queued, "_GRACE_SECONDS", 0.6)
    monkeypatch.setattr(queued, "_CANCEL_SECONDS", 0.3)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("provider", ["fal", "replicate", "topaz"])
@pytest.mark.parametrize("fault", ["poll_drip", "file_drip"])
def test_a_trickle_does_not_outlast_the_deadline(
    provider: str, fault: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    rig.stub.fault, rig.stub.polls = fault, 0
    with within(6.0):
        failure = rig.fails(seconds=2.5)
    assert (failure.kind, failure.elsewhere) == (Kind.TOO_LATE, False)
    assert failure.billed == ("yes" if fault == "file_drip" else "maybe")
    assert not list(tmp_path.glob("out-*"))


@pytest.mark.parametrize("provider", ["recraft", "lumenfall"])
def test_a_result_that_trickles_was_billed(
    provider: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    rig.stub.fault = "file_drip"
    with within(5.0):
        failure = rig.fails(seconds=2.0)
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.TOO_LATE, "yes", False)


def test_what_a_job_came_to_is_seen_though_its_cancelling_hangs(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("fal", stubs["fal"], tmp_path)
    rig.stub.fault, rig.stub.polls = "cancel_hangs", 10**9
    rig.leave()
    assert (rig.notes.last.state, rig.notes.last.billed) == ("cancelled", "yes")


@pytest.mark.parametrize("headers", [True, False])
def test_a_reply_to_a_create_that_trickles_is_in_doubt(headers: bool) -> None:
    def answer(connection: socket.socket, got: list[bytes]) -> None:
        while b"}" not in got[-1]:
            got[-1] += connection.recv(1 << 16)
        head = b"HTTP/1.1 201 Created\r\nX-Id: 7\r\n"
        connection.sendall(head if headers else head + b"Content-Length: 900\r\n\r\n")
        try:
            for _ in range(60):
                connection.sendall(b"X-A: 1\r\n" if headers else b" ")
                time.sleep(0.05)
        except OSError:
            pass

    async def once(url: str) -> bool:
        return (await transport(url).paid(f"{url}/v1/x", json_body({}), within=0.5)).cut

    with raw_server(answer) as (url, _), within(2.5):
        if headers:
            with pytest.raises(Failure) as caught:
                asyncio.run(once(url))
            assert caught.value.kind is Kind.IN_DOUBT
        else:
            assert asyncio.run(once(url))
