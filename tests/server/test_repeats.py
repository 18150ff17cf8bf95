"""Repeats of a request by its idempotency key, whatever becomes of the first one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Live, check_error, serving, wait_for
from tests.server.test_background import get, post
from upscale.errors import (
    AllProvidersExhausted,
    QueueFull,
    UpscaleError,
    UpstreamError,
    recorded,
)
from upscale.server.background import Background
from upscale.server.openapi.operations import ERRORS
from upscale.server.records.requests import RequestLog
from upscale.settings import Settings


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path)) as live:
        yield live


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a repeat has found the first one."""
    found, real = threading.Event(), RequestLog.arrive

    def arrive(self: RequestLog, *given: Any) -> Any:
        existing = real(self, *given)
        if existing is not None:
            found.set()
        return existing

    monkeypatch.setattr(RequestLog, "arrive", arrive)
    return found


def test_a_repeat_of_a_cancelled_request_becomes_the_first(
    box: Live, repeated: threading.Event
) -> None:
    box.engine.held = True
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(post, box, Idempotency_Key="a")
        assert box.engine.begun.wait(10)
        [request] = box.client.get("/v1/requests").json()["data"]
        again = [threads.submit(post, box, Idempotency_Key="a") for _ in range(2)]
        assert repeated.wait(10)
        box.client.delete(f"/v1/requests/{request['id']}")
        assert first.result().status_code == 499
        box.engine.held = False
        replies = [each.result() for each in again]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].json() == replies[1].json()
    assert len(box.engine.jobs) == 2


def test_a_repeat_fails_as_the_first_one_did(
    box: Live, repeated: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make(job: Any) -> None:
        raise QueueFull("16 jobs are waiting.", retry_after=7)

    monkeypatch.setattr(box.engine, "make", make)
    box.engine.held = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(post, box, Idempotency_Key="a")
        assert box.engine.begun.wait(10)
        again = threads.submit(post, box, Idempotency_Key="a")
        assert repeated.wait(10)
        box.engine.held = False
        replies = [first.result(), again.result()]
    for reply in replies:
        message = check_error(reply, 429, "RATE_LIMITED")
        assert "16 jobs are waiting" in message
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert "x-should-retry" not in reply.headers


@pytest.mark.parametrize(
    "error",
    [
        *ERRORS,
        UpstreamError("fal: refused.", status=400),
        UpstreamError("fal: no answer.", status=504),
        AllProvidersExhausted("No provider could serve the request."),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.status}",
)
def test_a_recorded_error_is_told_as_it_was(error: UpscaleError) -> None:
    again = recorded(error.status, error.code, error.message)
    assert (again.status, again.code, again.type) == (error.status, error.code, error.type)
    assert (again.message, again.retry) == (error.message, error.retry)
    assert (again.retry_after is not None) == (error.status in (429, 503))


def test_a_record_without_an_error_is_a_fault_of_ours() -> None:
    assert recorded(None, None, "why").status == 500


def test_a_repeat_is_answered_at_once_when_the_first_becomes_a_job(
    box: Live, repeated: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, go = Background.accept, threading.Event(), threading.Event()

    async def accept(self: Background, *given: Any) -> Any:
        begun.set()
        while not go.is_set():
            await asyncio.sleep(0.01)
        return await real(self, *given)

    monkeypatch.setattr(Background, "accept", accept)
    box.engine.held = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(post, box, {"background": "true"}, Idempotency_Key="a")
        assert begun.wait(10)
        again = threads.submit(post, box, {"background": "true"}, Idempotency_Key="a")
        assert repeated.wait(10)
        go.set()
        assert [first.result().status_code, again.result().status_code] == [202, 202]
        assert first.result().json()["id"] == again.result().json()["id"]
    box.engine.held = False


def test_a_repeat_bears_the_id_of_the_first(box: Live) -> None:
    first, again = (post(box, Idempotency_Key="a") for _ in range(2))
    assert again.headers["x-request-id"] == first.headers["x-request-id"]
    assert len(box.client.get("/v1/requests").json()["data"]) == 1


def test_another_body_under_the_same_name_is_a_rejected_request(box: Live) -> None:
    first = post(box, Idempotency_Key="a")
    other = post(box, {"scale_factor": "2"}, Idempotency_Key="a")
    check_error(other, 400, param="Idempotency-Key")
    record = get(box, other.headers["x-request-id"])
    assert (record["status"], record["error_code"]) == ("rejected", "INVALID_REQUEST")
    wait_for(lambda: get(box, first.headers["x-request-id"])["status"] == "completed")
    assert post(box, Idempotency_Key="a").headers["x-request-id"] == first.headers["x-request-id"]
