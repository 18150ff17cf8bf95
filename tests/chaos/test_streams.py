"""Streams of events that break off at random moments and are taken up again, over restarts."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.chaos.box import Box, Wish

pytestmark = pytest.mark.slow


def watch(box: Box, wish: Wish, draw: random.Random, over: threading.Event) -> list[str]:
    """Ids of all events, until the last one; cut after a few of them, or a moment."""
    seen: list[str] = []
    last = ""
    with httpx.Client(timeout=10) as client:
        while last != "end" and not over.is_set():
            few, until = draw.randint(1, 4), time.monotonic() + draw.uniform(0.1, 2.0)
            try:
                where = f"{box.url}/v1/requests/{wish.request_id}/events"
                with client.stream("GET", where, headers={"Last-Event-ID": last}) as events:
                    assert events.status_code == 200
                    number = ""
                    for line in events.iter_lines():
                        if line.startswith("id: "):
                            number = line.removeprefix("id: ")
                        elif not line and number:
                            last, number = number, ""
                            seen.append(last)
                            few -= 1
                        if not few or time.monotonic() > until:
                            break
            except httpx.TransportError:
                time.sleep(0.05)
        # There is nothing after the end.
        after = client.get(where, headers={"Last-Event-ID": "end"})
        assert (after.status_code, after.content) == (204, b"")
    return seen


@pytest.mark.parametrize("seed", [1])
def test_no_event_comes_twice_and_the_last_one_comes(tmp_path: Path, seed: int) -> None:
    draw, over = random.Random(seed), threading.Event()
    with Box(tmp_path, seconds=0.7, drain_seconds=0) as box, ThreadPoolExecutor(6) as threads:
        with httpx.Client(timeout=30) as client:
            wishes = [Wish(number) for number in range(6)]
            for wish in wishes:
                wish.insist(client, box, over)
        watching = [
            threads.submit(watch, box, wish, random.Random(seed * 100 + wish.number), over)
            for wish in wishes
        ]
        try:
            for end in (box.kill, box.stop):
                time.sleep(draw.uniform(0.3, 1.5))
                end()
                box.start()
                box.wait()
            for each in watching:
                seen = each.result(60)
                assert len(seen) == len(set(seen)), seen
                assert seen[-1] == "end"
        finally:
            over.set()
    assert {row.status for row in box.rows()} == {"completed"}
