"""The record and the audit of a request, however it ends."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import EDITS, Live, png, serving, wait_for
from tests.server.test_background import ended, get, later, post
from tests.server.test_keys import edit, keyed_server
from upscale import logs
from upscale.errors import RecordsFault
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Row
from upscale.settings import Settings

Lines = list[dict[str, Any]]


@pytest.fixture
def audited() -> Iterator[Lines]:
    """The fields of the audit's lines, as they come."""
    lines: Lines = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.fields)  # type: ignore[attr-defined]

    logger, handler = logs.get(logs.AUDIT), Kept()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path)) as live:
        yield live


def sent(live: Live, body: bytes | None = None) -> socket.socket:
    """A connection over which an edit was sent, whole or with another body than it says."""
    request = httpx.Request(
        "POST",
        f"{live.url}{EDITS}",
        data={"model": "bundled-x4"},
        files={"image": ("a.png", png(), "image/png")},
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection = socket.create_connection(("127.0.0.1", request.url.port or 0))
    connection.sendall(f"POST {EDITS} HTTP/1.1\r\n{head}\r\n".encode())
    connection.sendall(request.read() if body is None else body)
    return connection


def records(live: Live) -> list[dict[str, Any]]:
    """The requests that the server has had, the newest first."""
    found: list[dict[str, Any]] = live.client.get("/v1/requests").json()["data"]
    return found


def test_who_goes_away_while_the_end_is_written_leaves_a_whole_end(
    box: Live, audited: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writing, gone = RequestLog.finish, threading.Event(), threading.Event()

    def finish(self: RequestLog, *given: Any, **named: Any) -> Row | None:
        writing.set()
        assert gone.wait(20)
        return real(self, *given, **named)

    monkeypatch.setattr(RequestLog, "finish", finish)
    with sent(box):
        assert writing.wait(20)
    time.sleep(0.3)  # the server has no event for having heard of it
    gone.set()
    wait_for(lambda: bool(audited))
    [line] = audited
    assert (line["status"], line["what"]) == ("completed", "bundled-x4")
    assert get(box, line["request"])["status"] == "completed"


def test_who_goes_away_while_the_beginning_is_written_leaves_an_end(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writing, gone = RequestLog.change, threading.Event(), threading.Event()

    def change(self: RequestLog, *given: Any, **named: Any) -> bool:
        if "status" in named:
            writing.set()
            assert gone.wait(20)
        return real(self, *given, **named)

    monkeypatch.setattr(RequestLog, "change", change)
    with sent(box):
        assert writing.wait(20)
        time.sleep(0.3)  # the work is done, and waits for its beginning to be written
    time.sleep(0.3)
    gone.set()
    wait_for(lambda: records(box)[0]["status"] == "cancelled")


def test_an_upload_that_is_cut_off_was_cancelled(box: Live, audited: Lines) -> None:
    sent(box, b"--x").close()
    wait_for(lambda: bool(audited))
    assert audited[0]["status"] == "cancelled"
    [record] = records(box)
    assert (record["status"], record["error_code"]) == ("cancelled", "REQUEST_CANCELLED")


def test_the_audit_is_written_at_every_level_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger("upscale")
    before = root.handlers[:], root.level, root.propagate
    try:
        logs.setup("error")
        logs.get(logs.AUDIT).info("request ended", extra=logs.fields(request="req_1"))
        logs.get("server").info("quiet")
    finally:
        root.handlers[:], root.level, root.propagate = before
    written = capsys.readouterr().err
    assert '"request": "req_1"' in written
    assert "quiet" not in written


def test_the_audit_knows_a_job_that_was_cancelled_by_its_id(tmp_path: Path, audited: Lines) -> None:
    with keyed_server(tmp_path) as server:
        key, client = server.make("one")
        server.live.engine.held = True
        reply = edit(client, data={"background": "true"})
        assert server.live.engine.begun.wait(20)
        client.delete(f"/v1/requests/{reply.json()['id']}")
        server.live.engine.held = False
    [line] = audited
    assert (line["who"], line["what"], line["route"], line["status"]) == (
        key.id,
        "bundled-x4",
        "local/bundled-x4",
        "cancelled",
    )


def test_the_audit_knows_what_ended_with_its_server(tmp_path: Path, audited: Lines) -> None:
    settings = Settings(data_dir=tmp_path, drain_seconds=0)
    with serving(settings) as live:
        done = ended(live, later(live)["id"])["id"]
    audited.clear()
    with sqlite3.connect(tmp_path / "records.db") as raw:
        dead = "status = 'processing', owner = 'f' || substr(owner, 2), background = 0"
        raw.execute(f"UPDATE requests SET {dead} WHERE id = ?", (done,))
    with serving(settings):
        pass
    [line] = audited
    assert (line["request"], line["what"], line["status"]) == (done, "bundled-x4", "cancelled")


def test_what_cannot_be_recorded_is_told_without_a_second_try(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def arrive(self: RequestLog, *given: Any) -> None:
        tries.append(given)
        raise RecordsFault("The records are locked.")

    monkeypatch.setattr(RequestLog, "arrive", arrive)
    assert post(box).status_code == 503
    assert len(tries) == 1
