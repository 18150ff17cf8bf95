"""Disks that fill up or may not be written, a database that is locked, a clock that jumps: the
server says so, hangs nowhere, and needs no restart. See docs/decisions/016-overload-and-faults.md.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.chaos.box import Box, Wish
from tests.server.live import wait_for

pytestmark = pytest.mark.slow

# Five seconds for the lock, and as many to say so in the record.
NOTHING_HANGS = 20


@contextmanager
def mounted(*command: str, at: Path) -> Iterator[None]:
    """`mount …` at a folder, which asks for rights that not every machine gives."""
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *command, str(at)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def locked(box: Box) -> Iterator[None]:
    """Another process writes, and does not end."""
    with closing(sqlite3.connect(box.folder / "records.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def timed(wish: Wish, client: httpx.Client, box: Box) -> httpx.Response:
    """A reply, which must come in time."""
    begun = time.monotonic()
    reply = wish.post(client, box.url)
    assert time.monotonic() - begun < NOTHING_HANGS
    return reply


def check_end(box: Box, statuses: set[str]) -> None:
    """After the server has stopped: nothing is left over or half done."""
    assert {row.status for row in box.rows()} <= statuses
    assert box.leftovers() == []


def done(client: httpx.Client, box: Box, wish: Wish, seconds: float = 40) -> str:
    """How a job has ended."""
    wait_for(lambda: wish.get(client, box)["status"] not in ("pending", "processing"), seconds)
    return str(wish.get(client, box)["status"])


def test_a_full_disk_is_told_and_space_heals_it(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=24m", "tmpfs", at=tmp_path / "data"):
        box = Box(tmp_path, seconds=1.0, min_free_bytes=4 << 20)
        ballast = box.folder / "ballast"
        with box, httpx.Client(timeout=60) as client:
            assert Wish(0, background=False).post(client, box.url).status_code == 200
            jobs = [Wish(n) for n in range(1, 4)]
            for wish in jobs:
                wish.insist(client, box, threading.Event())
            # Less than what must stay free: refused before work.
            free = shutil.disk_usage(box.folder).free
            ballast.write_bytes(b"x" * (free - (2 << 20)))
            begun = len(box.made("begun"))
            reply = timed(Wish(10, background=False), client, box)
            assert reply.status_code == 500
            assert "disk is nearly full" in reply.json()["error"]["message"]
            # Nothing at all left.
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            assert shutil.disk_usage(box.folder).free == 0
            for number in range(11, 15):
                wish = Wish(number, background=number % 2 == 0)
                reply = timed(wish, client, box)
                assert reply.status_code in (500, 503), reply.text
                told = reply.json()["error"]["message"]
                assert str(tmp_path) not in told
                assert "Cannot store" in told or "disk is full" in told
            assert len(box.made("begun")) <= begun + 3
            assert client.get(box.url + "/health").status_code == 200
            time.sleep(2)
            ballast.unlink()
            ends = {done(client, box, wish) for wish in jobs}
            assert ends <= {"completed", "upstream_failure"}
            after = Wish(20, background=False)
            reply = timed(after, client, box)
            assert reply.status_code == 200
            after.check(client, reply.json()["data"][0]["url"])
            later = Wish(21)
            later.insist(client, box, threading.Event())
            assert done(client, box, later) == "completed"
            for wish in (*jobs, later):
                found = wish.get(client, box)
                if found["status"] == "completed":
                    wish.check(client, found["response"]["data"][0]["url"])
        check_end(box, {"completed", "upstream_failure", "rejected"})


def test_a_folder_that_becomes_read_only_is_told_and_heals(tmp_path: Path) -> None:
    box = Box(tmp_path, seconds=0.1)
    with box, httpx.Client(timeout=60) as client:
        assert Wish(0, background=False).post(client, box.url).status_code == 200
        with mounted("--bind", str(box.folder), at=box.folder):
            remount = ["mount", "-o", "remount,bind,ro", str(box.folder)]
            subprocess.run(remount, check=True, capture_output=True)
            for number in (1, 2):
                reply = timed(Wish(number, background=number == 2), client, box)
                assert reply.status_code in (500, 503)
                told = reply.json()["error"]["message"]
                assert "Read-only file system" in told or "read-only" in told
                assert str(tmp_path) not in told
            assert client.get(box.url + "/health").status_code == 200
        for number in (3, 4):
            wish = Wish(number, background=number == 4)
            wish.insist(client, box, threading.Event())
            assert wish.status == (202 if number == 4 else 200)
        assert done(client, box, wish) == "completed"
    check_end(box, {"completed", "upstream_failure"})


def test_a_read_only_folder_is_one_clear_line_at_the_start(tmp_path: Path) -> None:
    box = Box(tmp_path)
    with box:
        pass
    with mounted("--bind", str(box.folder), at=box.folder):
        remount = ["mount", "-o", "remount,bind,ro", str(box.folder)]
        subprocess.run(remount, check=True, capture_output=True)
        box.start()
        assert box.process is not None
        assert box.process.wait(30) != 0
    assert "Read-only file system" in (tmp_path / "log").read_text().splitlines()[-1]


def test_a_lock_of_some_seconds_is_waited_for(tmp_path: Path) -> None:
    box = Box(tmp_path, seconds=0.1)
    with box, ThreadPoolExecutor(4) as threads, httpx.Client(timeout=60) as client:
        assert Wish(0, background=False).post(client, box.url).status_code == 200
        with locked(box):
            wishes = [Wish(n, background=n % 2 == 0) for n in range(1, 5)]
            asked = [threads.submit(timed, wish, client, box) for wish in wishes]
            time.sleep(2)
            assert client.get(box.url + "/health").status_code == 200
        assert [each.result().status_code for each in asked] == [200, 202, 200, 202]
        for wish, reply in zip(wishes, asked, strict=True):
            if wish.background:
                wish.request_id = reply.result().json()["id"]
                assert done(client, box, wish) == "completed"
    check_end(box, {"completed"})


def test_a_lock_that_lasts_is_told_and_what_ended_meanwhile_is_written_later(
    tmp_path: Path,
) -> None:
    box = Box(tmp_path, seconds=1.0)
    with box, ThreadPoolExecutor(6) as threads, httpx.Client(timeout=60) as client:
        assert Wish(0, background=False).post(client, box.url).status_code == 200
        jobs = [Wish(n) for n in range(1, 4)]
        for wish in jobs:
            wish.insist(client, box, threading.Event())
        wait_for(lambda: len(box.made("begun")) == 2)
        with locked(box):
            wishes = [Wish(n, background=n % 2 == 0) for n in range(10, 14)]
            asked = [threads.submit(timed, wish, client, box) for wish in wishes]
            time.sleep(8)
            shown = client.get(box.url + "/v1/requests").json()["data"]  # readers do not wait
            assert len(shown) == 4
            assert len(box.made()) >= 2
            time.sleep(5)
        replies = [each.result() for each in asked]
        for reply in replies:
            assert reply.status_code == 503, reply.text
            assert "too long" in reply.json()["error"]["message"]
        for wish in jobs:
            assert done(client, box, wish) == "completed"
        again = Wish(20, background=False)
        assert timed(again, client, box).status_code == 200
        # Those that ended meanwhile were made once: their ends were kept until they could be told.
        made = [request for request, _ in box.made()]
        assert len(made) == len(set(made)) == 5
    check_end(box, {"completed", "upstream_failure"})


def set_clock(file: Path, seconds: int) -> None:
    """In one step: the server reads it all the time."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)


def test_a_clock_that_jumps_breaks_nothing(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    set_clock(clock, 0)
    box = Box(tmp_path, seconds=0.4, clock=str(clock))
    (_, few), (_, many) = box.make_keys(few={"requests_per_minute": 3}, many={}).values()
    with box, httpx.Client(timeout=60) as client:

        def edit(wish: Wish) -> str:
            reply = timed(wish, client, box)
            assert reply.status_code == 200, reply.text
            return str(reply.json()["data"][0]["url"])

        limited = [timed(Wish(n, few), client, box).status_code for n in range(4)]
        assert limited == [202, 202, 202, 429]
        number, links = 10, []
        for jump in (30 * 86_400, -86_400, 7200, 0):
            running = Wish(number, many)
            running.insist(client, box, threading.Event())
            set_clock(clock, jump)
            # Limits a minute go by another clock.
            assert timed(Wish(number + 1, few), client, box).status_code == 429
            assert done(client, box, running) == "completed"
            wish = Wish(number + 2, many, background=False)
            links.append((wish, edit(wish)))
            wish.check(client, links[-1][1])
            found = client.get(box.url + "/v1/requests?limit=100", headers=wish.headers).json()
            times = [each["created_at"] for each in found["data"]]
            assert times == sorted(times, reverse=True)
            assert all((each["duration_ms"] or 0) >= 0 for each in found["data"])
            number += 10
        # Two hours ahead of now: gone as soon as the clock says that its hour is over, not before.
        set_clock(clock, 7200 + 3000)
        links[2][0].check(client, links[2][1])
        assert client.get(links[3][1]).status_code == 404
    check_end(box, {"completed", "rejected"})
