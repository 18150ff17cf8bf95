"""What the larger tests of this room have found, each made to happen at once."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.records.making import PATH
from tests.server.live import Live, serving, wait_for
from tests.server.test_background import ended, get, later, post
from tests.server.test_keys import edit, keyed_server
from upscale.errors import MediaFull, RecordsFault
from upscale.server import native
from upscale.server.background import Background
from upscale.server.media import MediaStore
from upscale.server.recording import Recording
from upscale.server.records.database import Database
from upscale.server.records.queue import JobQueue
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival
from upscale.server.records.speeds import Speeds
from upscale.server.spool import Spool
from upscale.server.storage.disk import DiskStorage
from upscale.settings import Settings


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path, drain_seconds=0)) as live:
        yield live


def failing(monkeypatch: pytest.MonkeyPatch, cls: type, name: str, times: int = 10**9) -> list[int]:
    """Let a method raise RecordsFault so many times; emptying the list ends it."""
    left, real = [times], getattr(cls, name)

    def sometimes(self: Any, *given: Any, **named: Any) -> Any:
        if left and left[0] > 0:
            left[0] -= 1
            raise RecordsFault("The records are locked.")
        return real(self, *given, **named)

    monkeypatch.setattr(cls, name, sometimes)
    return left


def test_a_spool_left_half_made_is_removed(tmp_path: Path) -> None:
    (tmp_path / "died" / "x").mkdir(parents=True)
    spool = Spool(tmp_path)
    spool.open()
    assert not (tmp_path / "died").exists()
    beside = Spool(tmp_path)
    beside.open()
    assert len(list(tmp_path.iterdir())) == 2
    for each in (spool, beside):
        each.close()


def test_a_result_of_the_future_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was set back by a day after it was made."""
    store = MediaStore(DiskStorage(tmp_path / "media"), ttl=3600, quota=100)
    store.open()
    file = tmp_path / "a"
    file.write_bytes(b"x" * 80)
    first = store.adopt(file, "png")
    file.write_bytes(b"y" * 80)
    with pytest.raises(MediaFull):  # somebody may be about to fetch it
        store.adopt(file, "png")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    second = store.adopt(file, "png")
    names = {path.name for path in (tmp_path / "media").iterdir()}
    assert names == {second} != {first}


def test_a_job_whose_records_could_not_be_read_waits_again(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.engine.held = True
    jobs = [later(box)["id"] for _ in range(3)]
    wait_for(lambda: box.engine.waiting == 2)
    locked = failing(monkeypatch, Speeds, "factor", times=2)
    box.engine.held = False
    for job in jobs:
        assert ended(box, job)["status"] == "completed", get(box, job)
    assert locked[0] < 2


def test_a_job_whose_end_is_owed_keeps_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may die before the end is written; then it is run again."""
    settings = Settings(data_dir=tmp_path, drain_seconds=0)
    with serving(settings) as box:
        locked = failing(monkeypatch, RequestLog, "finish")
        job = later(box)["id"]
        wait_for(lambda: locked[0] < 10**9)
        wait_for(lambda: box.engine.waiting == 0)
        assert (tmp_path / "jobs" / job / "source").exists()
        copy = tmp_path / "jobs" / job / "copy"
        copy.touch()
        locked.clear()
        assert ended(box, job)["status"] == "completed"
        wait_for(lambda: not copy.parent.exists())
    with serving(settings) as box:
        failing(monkeypatch, RequestLog, "finish")
        job = later(box)["id"]
        wait_for(lambda: len(box.engine.jobs) == 1 and box.engine.waiting == 0)
    monkeypatch.undo()
    with serving(settings) as box:  # as after its death: the end was never written
        assert ended(box, job)["status"] == "completed"


def test_a_request_that_could_not_say_that_it_has_begun_still_ends_well(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Recording.change

    async def change(self: Recording, **fields: Any) -> None:
        if "status" in fields:
            raise RecordsFault("The records are locked.")
        await real(self, **fields)

    monkeypatch.setattr(Recording, "change", change)
    reply = post(box)
    assert reply.status_code == 200, reply.text
    assert get(box, reply.headers["x-request-id"])["status"] == "completed"


def test_an_accepted_picture_is_on_the_disk_before_its_record_is(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    box.engine.held = True
    job = later(box)["id"]
    folder = box.settings.data_dir / "jobs"
    wanted = [str(folder / job / "source"), str(folder / job), str(folder)]
    assert [path for path in synced if path in wanted] == wanted
    box.engine.held = False
    ended(box, job)
    assert str(folder / job / "result") in synced


def test_a_job_that_is_being_accepted_beside_a_server_that_starts_keeps_its_picture(
    tmp_path: Path,
) -> None:
    with serving(Settings(data_dir=tmp_path)) as box:
        log = RequestLog(Database.of(box.settings))
        assert log.arrive(Arrival("req_now", PATH)) is None
        (tmp_path / "jobs" / "req_now").mkdir()
        (tmp_path / "jobs" / "req_gone").mkdir()
        database = Database.of(box.settings)
        database.open()
        nothing: Any = None
        background = Background(
            tmp_path / "jobs", database, nothing, nothing, box.spool, 10, nothing
        )
        background.open()
        assert (tmp_path / "jobs" / "req_now").exists()
        assert not (tmp_path / "jobs" / "req_gone").exists()
        log.finish("req_now", "rejected")
        database.close()


def test_who_goes_away_while_a_job_is_accepted_finds_it_again(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was promised in the records already."""
    accept, add = Background.accept, JobQueue.add
    cut: list[Callable[[], object]] = []

    async def accepting(self: Background, *given: Any) -> Any:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        cut.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await accept(self, *given)

    def adding(self: JobQueue, *given: Any, **fields: Any) -> Any:
        row = add(self, *given, **fields)
        cut.pop()()
        time.sleep(0.1)
        return row

    monkeypatch.setattr(Background, "accept", accepting)
    monkeypatch.setattr(JobQueue, "add", adding)
    first = post(box, {"background": "true"}, Idempotency_Key="a")
    assert first.status_code == 499
    again = later(box, Idempotency_Key="a")
    assert again["id"] == first.headers["x-request-id"]
    assert ended(box, again["id"])["status"] == "completed"


def test_a_job_that_is_claimed_as_the_server_stops_counts_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, drain_seconds=0)
    real, slow = JobQueue.claim, [False]

    def claim(self: JobQueue, *given: Any, **named: Any) -> Any:
        row = real(self, *given, **named)
        if row is not None and slow[0]:
            slow.append(True)
            time.sleep(1)
        return row

    monkeypatch.setattr(JobQueue, "claim", claim)
    with serving(settings) as box:
        slow[0] = True
        job = later(box)["id"]
        wait_for(lambda: len(slow) > 1)
    with sqlite3.connect(tmp_path / "records.db") as raw:
        found = raw.execute("SELECT status, attempts FROM requests WHERE id = ?", (job,)).fetchone()
    assert found == ("pending", 0)


def test_a_database_that_was_removed_is_told_and_can_be_put_back(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path / "data")) as box:
        assert post(box).status_code == 200
        file = tmp_path / "data" / "records.db"
        file.rename(tmp_path / "away")
        for _ in range(3):
            reply = post(box)
            assert reply.status_code == 503
            assert "removed or replaced" in reply.json()["error"]["message"]
        assert not file.exists()  # no empty one in its place
        shutil.copy(tmp_path / "away", file)
        assert post(box).status_code == 503
        (tmp_path / "away").rename(file)
        assert post(box).status_code == 200


def test_what_nobody_has_foreseen_does_not_end_the_background(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, faults = JobQueue.claim, [KeyError("x")]

    def claim(self: JobQueue, *given: Any, **named: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(self, *given, **named)

    monkeypatch.setattr(JobQueue, "claim", claim)
    assert ended(box, later(box)["id"])["status"] == "completed"
    assert not faults


def test_a_job_of_another_key_does_not_wait_for_what_a_key_has_in_the_foreground(
    tmp_path: Path,
) -> None:
    """Both places in front of the device are taken by jobs of a key with more to do than that."""
    with keyed_server(tmp_path) as server, ThreadPoolExecutor(6) as threads:
        (_, many), (_, few) = server.make("many"), server.make("few")
        engine = server.live.engine
        engine.held = True
        asked = [threads.submit(edit, many) for _ in range(6)]
        wait_for(lambda: engine.waiting == 6)
        for _ in range(3):
            assert edit(many, data={"background": "true"}).status_code == 202
        wait_for(lambda: engine.waiting == 8)
        light = edit(few, data={"background": "true"}).json()["id"]
        wait_for(lambda: engine.waiting == 9)
        engine.held = False
        assert all(each.result().status_code == 200 for each in asked)
        wait_for(lambda: len(engine.jobs) == 10)
        assert [job.id for job in engine.jobs].index(light) == 1


def test_an_end_that_is_owed_is_one_end(
    box: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is asked for, it is told to the audit once."""
    logging.getLogger("upscale").propagate = True
    caplog.set_level(logging.INFO)
    box.engine.held = True
    job = later(box)["id"]
    locked = failing(monkeypatch, RequestLog, "finish")
    for _ in range(2):
        assert box.client.delete(f"/v1/requests/{job}").is_success
    locked.clear()
    assert ended(box, job)["status"] == "cancelled"
    told = [
        each.fields["status"]  # type: ignore[attr-defined]
        for each in caplog.records
        if each.message == "request ended"
    ]
    assert told == ["cancelled"]
    box.engine.held = False


def test_a_server_that_stops_writes_the_ends_that_it_owes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale.server.recording._CATCH_UP_SECONDS", 1000.0)
    with serving(Settings(data_dir=tmp_path)) as box:
        locked = failing(monkeypatch, RequestLog, "finish")
        job = later(box)["id"]
        wait_for(lambda: locked[0] < 10**9)
        wait_for(lambda: box.engine.waiting == 0)
        locked.clear()
    with sqlite3.connect(tmp_path / "records.db") as raw:
        found = raw.execute("SELECT status FROM requests WHERE id = ?", (job,)).fetchone()
    assert found == ("completed",)
    assert not (tmp_path / "jobs" / job).exists()


def test_a_result_is_handed_over_although_its_end_cannot_be_written_yet(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = failing(monkeypatch, RequestLog, "finish")
    reply = post(box)
    assert reply.status_code == 200, reply.text
    assert box.client.get(reply.json()["data"][0]["url"]).is_success
    locked.clear()
    assert ended(box, reply.headers["x-request-id"])["status"] == "completed"


def test_a_waiting_job_that_is_cancelled_while_the_records_are_locked_is_cancelled(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its picture goes when its end is written, and nobody takes it before."""
    box.engine.held = True
    jobs = [later(box)["id"] for _ in range(3)]
    wait_for(lambda: box.engine.waiting == 2)
    locked = failing(monkeypatch, RequestLog, "finish")
    assert box.client.delete(f"/v1/requests/{jobs[2]}").is_success
    folder = box.settings.data_dir / "jobs" / jobs[2]
    assert folder.exists()
    box.engine.held = False
    wait_for(lambda: box.engine.waiting == 0)
    time.sleep(0.2)  # in which it would be taken
    locked.clear()
    assert ended(box, jobs[2])["status"] == "cancelled"
    assert jobs[2] not in [job.id for job in box.engine.jobs]
    wait_for(lambda: not folder.exists())


def test_an_orderly_stop_stores_the_result_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, drain_seconds=0)
    real, storing = MediaStore.adopt, threading.Event()

    def adopt(self: MediaStore, *given: Any, **named: Any) -> str:
        storing.set()
        time.sleep(0.5)
        return real(self, *given, **named)

    monkeypatch.setattr(MediaStore, "adopt", adopt)
    with serving(settings) as box:
        job = later(box)["id"]
        assert storing.wait(10)
    with serving(settings) as box:
        found = get(box, job)
        assert (found["status"], found["attempts"]) == ("completed", 1)
        path = httpx.URL(found["response"]["data"][0]["url"]).path
        assert box.client.get(path).is_success
        assert box.engine.jobs == []


def test_what_was_accepted_is_told_so_although_the_records_cannot_be_read(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.engine.held = True
    add, unreadable = JobQueue.add, []

    def adding(self: JobQueue, *given: Any, **fields: Any) -> Any:
        row = add(self, *given, **fields)
        unreadable.append(failing(monkeypatch, RequestLog, "get"))
        unreadable.append(failing(monkeypatch, JobQueue, "waiting"))
        return row

    monkeypatch.setattr(JobQueue, "add", adding)
    first = later(box)
    for left in unreadable:
        left.clear()
    box.engine.held = False
    assert ended(box, first["id"])["status"] == "completed"


def test_a_request_that_becomes_a_job_as_it_is_cancelled_leaves_no_picture(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = native._own

    async def a_moment_ago(*given: Any) -> Any:
        return replace(await own(*given), background=False)

    box.engine.held = True
    jobs = [later(box)["id"] for _ in range(3)]
    wait_for(lambda: box.engine.waiting == 2)
    monkeypatch.setattr(native, "_own", a_moment_ago)
    for job in jobs[::-1]:
        assert box.client.delete(f"/v1/requests/{job}").json()["status"] == "cancelled"
    folder = box.settings.data_dir / "jobs"
    wait_for(lambda: not any(path.is_dir() for path in folder.iterdir()))
    assert box.spool.held == 0
    box.engine.held = False


def test_a_job_that_is_cancelled_while_its_result_is_stored_leaves_none(
    box: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, storing = MediaStore.adopt, threading.Event()

    def adopt(self: MediaStore, *given: Any, **named: Any) -> str:
        storing.set()
        time.sleep(0.5)
        return real(self, *given, **named)

    monkeypatch.setattr(MediaStore, "adopt", adopt)
    job = later(box)["id"]
    assert storing.wait(10)
    assert box.client.delete(f"/v1/requests/{job}").json()["status"] == "cancelled"
    assert get(box, job)["response"] is None
    data = box.settings.data_dir
    wait_for(lambda: not list((data / "media").iterdir()))
    wait_for(lambda: not (data / "jobs" / job).exists())
    assert box.spool.held == 0
