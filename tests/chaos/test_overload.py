"""Four times as many requests as can be done. CHAOS_SECONDS=120 keeps it up for longer."""

from __future__ import annotations

import os
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.chaos.box import Box, Wish
from tests.server.live import wait_for

pytestmark = pytest.mark.slow

JOB_SECONDS = 0.4
QUEUE, BACKGROUND = 6, 10
# So many operations a pixel take the plan's device about that long for the pictures used here.
MACS = 120_000_000


def test_four_times_the_capacity_is_refused_honestly(tmp_path: Path) -> None:
    seconds = float(os.environ.get("CHAOS_SECONDS", "6"))
    box = Box(
        tmp_path, seconds=JOB_SECONDS, macs=MACS, queue_limit=QUEUE, background_limit=BACKGROUND
    )
    with box, ThreadPoolExecutor(64) as threads, httpx.Client(timeout=120) as client:
        limits = httpx.Limits(max_connections=64)
        with httpx.Client(timeout=120, limits=limits) as many:
            assert Wish(9999).post(client, box.url).status_code == 202
            resident, most, longest = box.resident_mb(), 0.0, 0
            asked: list[Future[httpx.Response]] = []
            wishes: list[Wish] = []
            begun = time.monotonic()
            while (now := time.monotonic()) < begun + seconds:
                wish = Wish(len(wishes), background=len(wishes) % 3 == 0)
                wishes.append(wish)
                asked.append(threads.submit(wish.post, many, box.url))
                if len(wishes) % 5 == 0:
                    most = max(most, box.resident_mb())
                    longest = max(longest, client.get(box.url + "/health").json()["waiting"])
                time.sleep(max(0.0, now + JOB_SECONDS / 4 - time.monotonic()))
            replies = [each.result(120) for each in asked]
        statuses = [reply.status_code for reply in replies]
        print({status: statuses.count(status) for status in set(statuses)}, resident, most, longest)
        assert set(statuses) == {200, 202, 429}
        for reply in replies:
            if reply.status_code == 429:
                assert 1 <= int(reply.headers["retry-after"]) <= 60
                message = reply.json()["error"]["message"]
                found = re.match(r"(\d+) (?:background )?jobs are waiting, about (\d+) s", message)
                assert found, message
                assert QUEUE <= int(found[1]) <= BACKGROUND + QUEUE
                assert JOB_SECONDS < int(found[2]) < 60
        accepted = []
        for wish, reply in zip(wishes, replies, strict=True):
            if reply.status_code == 202:
                wish.request_id = reply.json()["id"]
                accepted.append(wish)
            elif reply.status_code == 200:
                wish.check(client, reply.json()["data"][0]["url"])
        assert most < resident + 60
        # The two that the background has in front of the device come on top of its queue.
        assert longest <= QUEUE + 2
        for wish in accepted:
            wait_for(lambda wish=wish: wish.get(client, box)["status"] == "completed", 60)  # type: ignore[misc]
    rows = box.rows()
    assert {row.status for row in rows} == {"completed", "rejected"}
    assert sum(row.status == "completed" for row in rows) == len(rows) - statuses.count(429)
    assert box.leftovers() == []


def test_a_light_key_beside_a_flooding_one_waits_for_a_few_jobs(tmp_path: Path) -> None:
    box = Box(tmp_path, seconds=0.3, macs=MACS, queue_limit=16)
    (_, many), (_, few) = box.make_keys(many={}, few={}).values()
    over = threading.Event()
    with box, ThreadPoolExecutor(10) as threads, httpx.Client(timeout=60) as client:
        flood = [Wish(n, many, background=n < 24) for n in range(32)]
        asking = [threads.submit(wish.insist, client, box, over) for wish in flood]
        wait_for(lambda: len(box.made()) >= 2, 30)
        lights: list[Wish] = []
        for number, background in ((100, True), (101, False)):
            light = Wish(number, few, background=background)
            lights.append(light)
            light.insist(client, box, over)
            if background:
                wait_for(lambda light=light: light.get(client, box)["status"] == "completed", 30)  # type: ignore[misc]
        by_name = {row.idempotency_key: row for row in box.rows()}
        order = [request for request, _ in box.made("begun")]
        for light in lights:
            row = by_name[light.name]
            begun = order.index(row.id)
            # Those that began after it had arrived and before it did.
            earlier = [each for each in by_name.values() if each.id in order[:begun]]
            between = [
                each
                for each in earlier
                if each.finished_at is None or each.finished_at > row.created_at
            ]
            print(f"{light.name} waited for {len(between)}")
            assert len(between) <= 4
        over.set()
        for each in asking:
            each.result(60)
        for wish in flood:
            if wish.request_id:
                wait_for(lambda wish=wish: wish.get(client, box)["status"] == "completed", 60)  # type: ignore[misc]
