"""Server processes killed at random moments under load, judged by records, files and replies.

CHAOS_KILLS=200,20,5 asks for 200 jobs, 20 kills and seed 5.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from tests.chaos.box import Box, Wish
from tests.server.live import EDITS, wait_for

PRICE = 250_000
GIVEN_UP = "The server stopped 2 times while it ran this job."

pytestmark = pytest.mark.slow


def asked() -> tuple[int, int, int]:
    """Jobs, kills, seed."""
    jobs, kills, seed = os.environ.get("CHAOS_KILLS", "30,3,14").split(",")
    return int(jobs), int(kills), int(seed)


def test_nothing_is_lost_or_billed_twice_whenever_it_is_killed(tmp_path: Path) -> None:
    jobs, kills, seed = asked()
    print(f"CHAOS_KILLS={jobs},{kills},{seed}")
    draw = random.Random(seed)
    box = Box(tmp_path, price_per_image="0.25", queue_limit=6, seconds=0.25, drain_seconds=5)
    keys = box.make_keys(rich={}, poor={"spending_limit_micros": 8 * PRICE}, third={})
    tokens = [token for _, token in keys.values()]
    wishes = [Wish(n, tokens[n % 3], background=True) for n in range(jobs)]
    wishes += [Wish(n, tokens[n % 3], background=False) for n in range(jobs, jobs + jobs // 4)]
    draw.shuffle(wishes)
    over = threading.Event()
    box.start()
    box.wait()
    with ThreadPoolExecutor(6) as threads, httpx.Client(timeout=60) as client:
        try:
            asking = [threads.submit(wish.insist, client, box, over) for wish in wishes]
            for _ in range(kills):
                # A server that does nothing yet is no harder to kill than one that is not there.
                wait_for(lambda: box.at_work() or all(each.done() for each in asking), 60)
                time.sleep(draw.uniform(0.0, 1.5))
                box.kill()
                box.start()
                while draw.random() < 0.2:  # before it is ready
                    time.sleep(draw.uniform(0.0, 3.0))
                    box.kill()
                    box.start()
                box.wait()
            for each in asking:
                each.result(120)
            accepted = [wish for wish in wishes if wish.status == 202]
            wait_for_all(client, box, accepted)
            # A repeat finds the first one, whatever has happened since.
            for wish in draw.sample(accepted, min(10, len(accepted))):
                again = wish.post(client, box.url)
                assert (again.status_code, again.json()["id"]) == (202, wish.request_id)
            check_links(client, box, wishes)
            box.kill()
            box.start()
            box.wait()
            box.stop()
        finally:
            over.set()
            box.stop()
    judge(box, wishes, keys, kills)


def wait_for_all(client: httpx.Client, box: Box, wishes: list[Wish]) -> None:
    """Until each job has ended."""
    until = time.monotonic() + 30 + len(wishes)
    for wish in wishes:
        while wish.get(client, box)["status"] in ("pending", "processing"):
            assert time.monotonic() < until, wish.get(client, box)
            time.sleep(0.05)


def check_links(client: httpx.Client, box: Box, wishes: list[Wish]) -> None:
    """Each result is there, and nobody else's."""
    for wish in wishes:
        if wish.status == 200:
            wish.check(client, wish.url.replace(wish.url.partition("/media")[0], box.url))
        elif wish.status == 202:
            found = wish.get(client, box)
            if found["status"] == "completed":
                url = found["response"]["data"][0]["url"]
                wish.check(client, url.replace(url.partition("/media")[0], box.url))


def judge(box: Box, wishes: list[Wish], keys: dict[str, tuple[str, str]], kills: int) -> None:
    """From what is on the disk alone."""
    rows = box.rows()
    by_id = {row.id: row for row in rows}
    assert not [row.id for row in rows if not row.ended]
    assert {wish.status for wish in wishes} <= {200, 202, 402}
    poor = keys["poor"][1]
    assert all(wish.token == poor for wish in wishes if wish.status == 402)
    given_up = 0
    for wish in wishes:
        if wish.status == 202:
            row = by_id[wish.request_id]
            if row.status != "completed":
                assert (row.status, row.error_message, row.attempts) == (
                    "upstream_failure",
                    GIVEN_UP,
                    2,
                )
                given_up += 1
        elif wish.status == 200:
            done = [row for row in rows if row.idempotency_key == wish.name]
            assert [row.status for row in done] == ["completed"], wish
    completed = [row for row in rows if row.status == "completed"]
    # One for each that was promised, and no other.
    wanted = {wish.name for wish in wishes if wish.status in (200, 202)}
    named = Counter(row.idempotency_key for row in completed)
    assert set(named) <= wanted
    assert set(named.values()) == {1}
    assert len(completed) == len(wanted) - given_up
    for row in rows:
        paid = row.status == "completed"
        assert row.cost_micros == (PRICE if paid else 0), row
        assert (row.reserve_state == "settled") is paid, row
        assert row.reserve_state in ("none", "released", "settled"), row
    for key_id, _ in keys.values():
        spent = PRICE * sum(row.key_id == key_id for row in completed)
        assert box.money(key_id) == (spent, 0)
    made = box.made()
    for request, count in Counter(request for request, _ in made).items():
        processes = {process for each, process in made if each == request}
        # A second time only after the process that made it first was killed.
        assert count == len(processes) <= 2, (request, count)
        assert count <= max(1, by_id[request].attempts)
    assert {row.id for row in completed} <= {request for request, _ in made}
    assert box.leftovers() == []
    # The kills met work, or all this says nothing.
    lives = len({process for _, process in box.made("begun")})
    tries = sum(wish.tries for wish in wishes)
    twice = len(made) - len({request for request, _ in made})
    cut = len(box.made("begun")) - len(made)
    print(
        f"{lives} lives at work, {len(completed)} completed, {cut} interrupted, "
        f"{given_up} given up, {twice} made again, {tries} posts"
    )
    assert lives > kills // 2
    assert cut >= kills // 4


def test_a_job_whose_worker_is_killed_runs_again_once(
    tmp_path: Path, shared_data_dir: Path
) -> None:
    """The device worker alone: the server lives on, and the job is no worse for it."""
    picture = BytesIO()
    Image.effect_noise((300, 200), 60).convert("RGB").save(picture, "png")
    box = Box(tmp_path, "real", device="cpu", tile=48, tile_threads=1)
    box.folder = shared_data_dir  # where networks are measured once
    with box, httpx.Client(base_url=box.url, timeout=60) as client:
        form = {"model": "bundled-x4", "background": "true"}
        reply = client.post(EDITS, data=form, files={"image": picture.getvalue()})
        assert reply.status_code == 202, reply.text
        place = reply.headers["location"]
        assert box.process is not None

        def worker() -> psutil.Process:
            children = psutil.Process(box.process.pid).children()  # type: ignore[union-attr]
            [found] = [each for each in children if "upscale.engine.worker" in each.cmdline()]
            return found

        def begun() -> bool:
            progress = client.get(place).json()["progress"]
            return progress is not None and progress["tiles_done"] > 0

        wait_for(begun, 60)
        worker().kill()
        wait_for(lambda: client.get(place).json()["status"] not in ("pending", "processing"), 120)
        done = client.get(place).json()
        assert (done["status"], done["attempts"]) == ("completed", 1), done
        assert done["response"]["metadata"]["receipt"]["attempts"] == 2
        result = client.get(done["response"]["data"][0]["url"])
        with Image.open(BytesIO(result.content)) as image:
            assert image.size == (1200, 800)
            image.load()
    assert box.leftovers() == []
