"""Background jobs within bounds: of the spool, of callers; keys and servers that are gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tests.records.making import PATH
from tests.server.live import Live, check_error, png, serving, wait_for
from tests.server.test_background import ended, get, later, post
from tests.server.test_keys import Keyed, edit, keyed_server
from upscale.server import app, feeds
from upscale.server.records.database import Database
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival
from upscale.server.records.tables import requests
from upscale.settings import Settings

# About 300 kB, whose result takes 6 MB at most.
LARGE = png((320, 320))
SPOOL = 7_000_000


def large(live: Live) -> httpx.Response:
    files = {"image": ("a.png", LARGE, "image/png")}
    return live.edit({"model": "bundled-x4", "background": "true"}, files=files)


def asks(client: httpx.Client, **more: Any) -> httpx.Response:
    return edit(client, data={"background": "true", **more})


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    with keyed_server(tmp_path, background_limit=6, drain_seconds=0) as server:
        yield server


def test_pictures_that_wait_leave_room_for_the_jobs_to_run(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, max_spool_bytes=SPOOL, drain_seconds=0)
    with serving(settings) as live:
        live.engine.held = True
        jobs = [later(live)["id"] for _ in range(2)]  # small ones, so that the others wait
        wait_for(lambda: live.engine.waiting == 2)
        while (reply := large(live)).status_code == 202:
            jobs.append(reply.json()["id"])
        message = check_error(reply, 429, "RATE_LIMITED")
        assert f"{len(jobs)} background jobs are waiting" in message
        assert "bytes" in message
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert len(jobs) >= 6
        live.engine.held = False
        assert {ended(live, job)["status"] for job in jobs} == {"completed"}
        assert large(live).status_code == 202


def test_a_spool_that_is_full_of_pictures_at_the_start_is_worked_off(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, drain_seconds=0)) as before:
        before.engine.held = True
        jobs = [large(before).json()["id"] for _ in range(12)]
    small = Settings(data_dir=tmp_path, max_spool_bytes=3_000_000 + len(LARGE) * 12)
    with serving(small) as after:
        assert {ended(after, job)["status"] for job in jobs} == {"completed"}


def test_a_caller_who_fills_his_part_leaves_room_for_others(keyed: Keyed) -> None:
    (_, many), (_, few) = keyed.make("many"), keyed.make("few")
    keyed.live.engine.held = True
    jobs = [asks(many) for _ in range(6)]
    assert {reply.status_code for reply in jobs} == {202}
    message = check_error(asks(many), 429, "RATE_LIMITED")
    assert "6 background jobs are waiting" in message
    assert "one caller may have no more than 6" in message
    assert [asks(few).status_code for _ in range(2)] == [202, 202]
    assert "all callers together may have no more than 8" in check_error(
        asks(few), 429, "RATE_LIMITED"
    )
    keyed.live.engine.held = False


def test_waiting_jobs_of_a_key_that_is_revoked_or_expires_are_cancelled(keyed: Keyed) -> None:
    engine, first, clients = keyed.live.engine, keyed.make("first")[1], []
    engine.held = True
    [asks(first) for _ in range(2)]
    wait_for(lambda: engine.waiting == 2)
    # Of other keys one job each stands in front of the device, too, and is still to begin.
    for name in ("revoked", "expired"):
        key, client = keyed.make(name)
        jobs = [asks(client).json()["id"] for _ in range(2)]
        clients.append((key, jobs))
    wait_for(lambda: engine.waiting == 4)
    keyed.ring.revoke("revoked")
    keyed.ring.limit("expired", expires=1)
    with closing(Database.of(keyed.live.settings)) as database:
        log = RequestLog(database)
        for key, (_, waiting) in clients:
            wait_for(lambda waiting=waiting: log.get(waiting).ended)  # type: ignore[misc]
            row = log.get(waiting)
            assert row is not None
            assert (row.status, row.error_code) == ("cancelled", "REQUEST_CANCELLED")
            assert "revoked or expired" in str(row.error_message)
            assert row.reserve_state == "released"
            folder = keyed.live.settings.data_dir / "jobs" / waiting
            wait_for(lambda folder=folder: not folder.exists())  # type: ignore[misc]
            assert keyed.ring.get(key.id).reserved_micros == 250_000  # of the one that was taken
        engine.held = False
        wait_for(lambda: all(keyed.ring.get(key.id).reserved_micros == 0 for key, _ in clients))


def test_a_job_whose_picture_is_gone_says_so_and_costs_nothing(keyed: Keyed) -> None:
    key, client = keyed.make("one")
    keyed.live.engine.held = True
    jobs = [asks(client).json()["id"] for _ in range(3)]
    shutil.rmtree(keyed.live.settings.data_dir / "jobs" / jobs[-1])
    keyed.live.engine.held = False
    url = f"/v1/requests/{jobs[-1]}"
    wait_for(lambda: client.get(url).json()["status"] == "upstream_failure")
    assert "not on the server's disk" in client.get(url).json()["error_message"]
    wait_for(lambda: keyed.ring.get(key.id).reserved_micros == 0)


def test_a_job_whose_server_never_came_back_is_given_up(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with closing(Database.of(settings)) as database:
        database.open()
        log = RequestLog(database)
        for name in ("old", "young"):
            job = Arrival(f"req_{name}", PATH, background=True, order="{}", place="far away")
            assert log.arrive(job) is None
        with database.write() as connection:
            connection.execute(
                update(requests).where(requests.c.id == "req_old").values(created_at=1)
            )
    with serving(settings) as live:
        found = ended(live, "req_old")
        assert found["status"] == "upstream_failure"
        assert "away for 7 days" in found["error_message"]
        assert get(live, "req_young")["status"] == "pending"


def test_what_a_server_beside_this_one_has_done_is_counted_and_watched_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[feeds.Feeds] = []

    def make() -> feeds.Feeds:
        made.append(feeds.Feeds())
        return made[-1]

    monkeypatch.setattr(app, "Feeds", make)
    settings = Settings(data_dir=tmp_path, background_limit=4, drain_seconds=0)
    with ExitStack() as servers:
        one = servers.enter_context(serving(settings))
        one.engine.held = True
        kept = [later(one)["id"] for _ in range(2)]
        wait_for(lambda: one.engine.waiting == 2)
        passed = [later(one)["id"] for _ in range(2)]
        check_error(post(one, {"background": "true"}), 429, "RATE_LIMITED")
        two = servers.enter_context(serving(settings))
        for job in passed:
            assert ended(two, job)["status"] == "completed"
        wait_for(lambda: not any(made[0].get(job) for job in passed))
        assert [later(one)["status"] for _ in range(2)] == ["pending"] * 2
        one.engine.held = False
        for job in kept:
            assert ended(one, job)["status"] == "completed"
        wait_for(lambda: one.spool.held == two.spool.held == 0)
