"""Records of requests: what may follow what, who sees them, what is deleted when."""

from __future__ import annotations

import json
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.records.making import PATH, arrived, read, waiting
from upscale.errors import InvalidRequest
from upscale.server.records import requests
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.queue import JobQueue
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import ENDED, Arrival, Row, Status, remote_facts, to_public
from upscale.server.records.tables import requests as table
from upscale.server.records.times import now_ms


def test_a_row_has_the_columns_of_the_table() -> None:
    assert [f.name for f in fields(Row)] == [c.name for c in table.columns]


def test_a_request_goes_its_way(database: Database) -> None:
    log = RequestLog(database)
    before = now_ms()
    request = arrived(
        log, model="real-esrgan", user="a\0b\ud800", request_size_bytes=5, order='{"n": 1}'
    )
    row = read(log, request)
    assert before <= row.created_at <= now_ms()
    assert (row.status, row.started_at, row.user) == ("pending", None, "a\\0b\\ud800")
    assert log.change(request, position=3, expected_seconds=1.5)
    assert read(log, request).position == 3
    assert log.change(request, status="processing", provider="local")
    assert not log.change(request, status="processing")
    assert log.change(request, progress='{"tiles": 3}', sent_to="fal", sent_bytes=9)
    assert log.finish(
        request, "completed", cost_micros=40_000, media=["a.png", "b.png"], reply="{}"
    )
    row = read(log, request)
    assert row.ended
    assert (row.media, row.cost_micros, row.sent_to) == (("a.png", "b.png"), 40_000, "fal")
    assert row.started_at is not None
    assert row.finished_at is not None
    assert row.duration_ms == row.finished_at - row.created_at
    assert (row.order, row.progress, row.position) == (None, None, None)  # of no use any more
    assert not log.change("req_none", position=1)
    assert log.get("req_none") is None


@pytest.mark.parametrize("status", ENDED)
def test_what_has_ended_stays_so(database: Database, status: requests.Status) -> None:
    log = RequestLog(database)
    request = waiting(log)
    assert log.finish(request, status, error_code="X", error_message="why", error_status=500)
    row = read(log, request)
    assert not log.change(request, status="processing")
    assert not log.change(request, progress="{}")
    assert not log.change(request, progress="{}", response_size_bytes=1)
    assert not JobQueue(database).requeue(request)
    assert JobQueue(database).claim() is None
    assert not any(log.finish(request, other) for other in ENDED)
    assert read(log, request) == row
    assert log.change(request, response_size_bytes=17, webhook_state="delivered")
    assert read(log, request).response_size_bytes == 17


def test_of_many_that_end_a_request_one_does(database: Database) -> None:
    log = RequestLog(database)
    request, done = arrived(log), []
    start = threading.Barrier(8)

    def end(number: int) -> None:
        start.wait()
        if log.finish(request, ENDED[number % 4], error_message=str(number)):
            done.append(str(number))

    threads = [threading.Thread(target=end, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert read(log, request).error_message == done[0]


def test_mistakes_of_ours_are_told(sqlite: Database) -> None:
    log = RequestLog(sqlite)
    request = arrived(log)
    with pytest.raises(TypeError, match="cost_micros"):
        log.change(request, cost_micros=1)
    with pytest.raises(TypeError, match="owner"):
        log.finish(request, "completed", owner="me")
    with pytest.raises(ValueError, match="finish"):
        log.change(request, status="completed")
    with pytest.raises(ValueError, match="no end"):
        log.finish(request, "processing")


def test_a_clock_that_was_set_back_makes_no_negative_duration(sqlite: Database) -> None:
    log = RequestLog(sqlite)
    request = arrived(log, created_at=now_ms() + 3_600_000)
    assert log.finish(request, "completed")
    assert read(log, request).duration_ms == 0


def test_a_key_sees_its_own_only(database: Database) -> None:
    log, ring = RequestLog(database), KeyRing(database)
    mine, other = ring.create("mine")[0].id, ring.create("other")[0].id
    request = arrived(log, key_id=mine)
    assert log.get(request, key_id=mine) == log.get(request)
    assert log.get(request, key_id=other) is None
    assert log.get(arrived(log), key_id=mine) is None


def test_an_idempotency_key_finds_the_first_request_of_the_same_caller(database: Database) -> None:
    log, ring = RequestLog(database), KeyRing(database)
    mine, other = ring.create("mine")[0].id, ring.create("other")[0].id
    same = {"idempotency_key": "abc", "fingerprint": "f1"}
    for caller in (mine, other, None):
        first = arrived(log, key_id=caller, **same)
        again = log.arrive(Arrival("req_again", PATH, key_id=caller, **same))
        assert again is not None
        assert (again.row.id, again.same) == (first, True)
        changed = same | {"fingerprint": "f2"}
        differs = log.arrive(Arrival("req_again", PATH, key_id=caller, **changed))
        assert differs is not None
        assert not differs.same
        assert log.get("req_again") is None
        assert log.finish(first, "rejected")  # no work was done: the next may try
        arrived(log, key_id=caller, **same)
    arrived(log, key_id=mine)
    arrived(log, key_id=mine)


def test_of_many_with_one_idempotency_key_one_arrives(database: Database) -> None:
    log = RequestLog(database)
    start, found = threading.Barrier(8), []

    def arrive(number: int) -> None:
        start.wait()
        found.append(log.arrive(Arrival(f"req_{number}", PATH, idempotency_key="abc")))

    threads = [threading.Thread(target=arrive, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert found.count(None) == 1
    assert len({one.row.id for one in found if one is not None}) == 1


def test_a_purge_deletes_what_was_sent_and_got(database: Database) -> None:
    log = RequestLog(database)
    request = waiting(log, model="real-esrgan")
    with pytest.raises(InvalidRequest, match="still at work"):
        log.purge(request)
    log.finish(request, "completed", reply='{"data": []}', media=["x.png"])
    gone = log.purge(request)
    assert gone is not None
    assert (gone.media, gone.files, gone.already) == (("x.png",), ("source.png",), False)
    row = read(log, request)
    assert (row.order, row.reply, row.progress, row.purged) == (None, None, None, True)
    assert (row.model, row.status) == ("real-esrgan", "completed")
    again = log.purge(request)
    assert again is not None
    assert again.already
    assert again.media == gone.media
    assert log.purge("req_none") is None


def test_nothing_of_what_was_purged_stays_in_the_files(sqlite: Database, tmp_path: Path) -> None:
    log = RequestLog(sqlite)
    request = arrived(log, background=True, order="SECRET-ORDER " * 400)
    log.finish(request, "completed", reply="SECRET-REPLY")
    assert b"SECRET" in _bytes(tmp_path)
    log.purge(request)
    assert b"SECRET" not in _bytes(tmp_path)
    assert log.get(request) is not None


def _bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_old_records_go_and_what_is_at_work_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_AT_A_TIME", 3)
    log = RequestLog(database)
    old = [arrived(log, created_at=1000 + n) for n in range(8)]
    for request in old[:7]:
        log.finish(request, "completed", media=[f"{request}.png"])
    young = arrived(log, created_at=5000)
    log.finish(young, "completed", media=["young.png"])
    gone = log.expire(5000)
    assert gone.count == 7
    assert set(gone.media) == {f"{request}.png" for request in old[:7]}
    assert {row.id for row in log.page().rows} == {young, old[7]}
    assert log.expire(5000).count == 0


def test_a_request_as_callers_see_it(sqlite: Database) -> None:
    log = RequestLog(sqlite)
    request = arrived(log, created_at=1_764_077_465_042, model="m", trace_id="t", client="1.2.3.4")
    log.finish(request, "completed", cost_micros=40_000, duration_ms=1234)
    shown = to_public(read(log, request))
    assert json.loads(json.dumps(shown)) == {
        "id": request,
        "object": "request",
        "created_at": "2025-11-25T13:31:05.042Z",
        "model": "m",
        "modality": "image",
        "endpoint": PATH,
        "status": "completed",
        "cost": 0.04,
        "currency": "usd",
        "duration_ms": 1234,
        "key_id": None,
        "error_code": None,
        "error_message": None,
        "session_id": None,
        "trace_id": "t",
        "user": None,
        "request_size_bytes": None,
        "response_size_bytes": None,
    }


def test_what_was_done_elsewhere_is_recorded(database: Database) -> None:
    log = RequestLog(database)
    request = arrived(log)
    assert (read(log, request).remote_attempts, read(log, request).remote_job) == ((), None)
    job = {"provider": "fal", "id": "x1", "urls": {"status": "https://fal.test/x1"}}
    assert log.change(request, durable=True, remote_job=job)
    tried = [{"provider": "topaz", "error": "unreachable"}, {"provider": "fal", "seconds": 1.5}]
    assert log.finish(request, "completed", remote_attempts=tried, sent_to="fal.test", sent_bytes=7)
    row = read(log, request)
    assert (list(row.remote_attempts), row.remote_job) == (tried, job)
    assert remote_facts(row) == {
        "sent_to": "fal.test",
        "sent_bytes": 7,
        "remote_attempts": tried,
    }
    log.purge(request)
    assert read(log, request).remote_job == job  # what it came to is not known yet


@pytest.mark.parametrize("status", ["cancelled", "rejected", "upstream_failure"])
@pytest.mark.parametrize("background", [False, True])
def test_a_name_stays_taken_until_it_is_known_that_nothing_was_paid(
    database: Database, status: Status, background: bool
) -> None:
    log = RequestLog(database)

    def ended(**fields: Any) -> str:
        request = arrived(log, idempotency_key=f"n{len(names)}", background=background)
        names.append(request)
        log.change(request, early=True, idempotency_kept=True, remote_job={"jobs": []})
        log.finish(request, status, idempotency_key=None, **fields)
        return request

    names: list[str] = []
    in_doubt = ended()
    free = ended(idempotency_kept=False, remote_job=None)
    assert read(log, in_doubt).idempotency_key == "n0"
    assert read(log, free).idempotency_key is None
    log.settle(in_doubt, idempotency_kept=True)
    assert read(log, in_doubt).idempotency_key == "n0"
    later = ended()
    log.settle(later, idempotency_kept=False)
    assert read(log, later).idempotency_key == ("n2" if background else None)
