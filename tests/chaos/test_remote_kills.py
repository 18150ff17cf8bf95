"""Servers killed at random moments of paid calls, judged by the providers' ledgers and the records
alone: for each request one paid call at most, and for each paid call a record that knows of it.

CHAOS_REMOTE=40,12,5 asks for 40 requests, 12 kills and seed 5.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.box import END, Box
from tests.providers.stubs.base import Job, Stub, running
from tests.providers.stubs.blocking import RecraftStub
from tests.providers.stubs.fal import FalStub
from tests.providers.tools import KEYS
from tests.server.live import EDITS, png, wait_for
from upscale.server.records.rows import Row

pytestmark = pytest.mark.slow

# What goes wrong at the providers meanwhile, once each time.
FAULTS = ("", "", "slow_reply", "503", "429", "cut_reply", "half_reply", "poll_cut", "result_500")
MODELS = (("seedvr-image-upscale", "fal"), ("recraft-crisp-upscale", "recraft"))
LIMIT = 50_000_000


def asked() -> tuple[int, int, int]:
    """Requests, kills, seed."""
    wanted, kills, seed = os.environ.get("CHAOS_REMOTE", "14,4,3").split(",")
    return int(wanted), int(kills), int(seed)


def request_of(job: Job) -> str:
    """The request that a paid call was made for: the name of its picture says so."""
    name = str(job.sent.get("filename") or job.sent["image_url"].rsplit("/", 1)[1])
    return "req_" + name.partition("req_")[2].partition(".")[0].partition("-")[0]


def ask(client: httpx.Client, box: Box, token: str, index: int, over: threading.Event) -> None:
    """Ask until there is an answer; whatever it is."""
    model, provider = MODELS[index % 2]
    data = {"model": f"{provider}/{model}"} | ({"background": "true"} if index % 3 else {})
    if model == "seedvr-image-upscale":
        data["scale_factor"] = "2"
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"wish-{index}"}
    picture = png((400, 320))
    while not over.is_set():
        try:
            files = {"image": ("a.png", picture, "image/png")}
            reply = client.post(box.url + EDITS, data=data, files=files, headers=headers)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if reply.status_code not in (429, 503):
            return
        time.sleep(0.1)


def trouble(stubs: dict[str, Stub], seed: int, over: threading.Event) -> None:
    """Now and then something goes wrong, once."""
    draw = random.Random(seed)
    while not over.wait(0.15):
        for stub in stubs.values():
            stub.fault, stub.times = draw.choice(FAULTS), 1


def test_for_each_request_one_paid_call_and_a_record_that_knows_of_it(tmp_path: Path) -> None:
    wanted, kills, seed = asked()
    print(f"CHAOS_REMOTE={wanted},{kills},{seed}")
    draw = random.Random(seed)
    with running(FalStub(KEYS["fal"])) as fal, running(RecraftStub(KEYS["recraft"])) as recraft:
        stubs: dict[str, Stub] = {"fal": fal, "recraft": recraft}
        fal.polls = 6
        given: dict[str, Any] = {f"{name}_base_url": stub.url for name, stub in stubs.items()}
        given |= {f"{name}_key": KEYS[name] for name in stubs}
        box = Box(tmp_path, "remote", drain_seconds=1, **given)
        ((key, token),) = box.make_keys(one={"spending_limit_micros": LIMIT}).values()
        over, calm = threading.Event(), threading.Event()
        box.start()
        box.wait()
        wait_for(lambda: fal.calls["pricing"] > 0)
        with ThreadPoolExecutor(5) as threads, httpx.Client(timeout=60) as client:
            try:
                weather = threads.submit(trouble, stubs, seed, calm)
                asking = [threads.submit(ask, client, box, token, n, over) for n in range(wanted)]
                for _ in range(kills):
                    paid = fal.paid + recraft.paid
                    wait_for(
                        lambda paid=paid: (  # type: ignore[misc]
                            fal.paid + recraft.paid > paid or all(each.done() for each in asking)
                        ),
                        60,
                    )
                    time.sleep(draw.uniform(0.0, 0.6))
                    if draw.random() < 0.7:
                        box.kill()
                    else:
                        box.stop()
                    box.start()
                    box.wait()
                for each in asking:
                    each.result(120)
                calm.set()
                weather.result()
                for stub in stubs.values():
                    stub.fault = ""
                wait_for(lambda: all(row.status in END for row in box.rows()), 60)
                wait_for(lambda: all(row.remote_job is None for row in box.rows()), 60)
            finally:
                over.set()
                calm.set()
                box.stop()
        judge(box.rows(), stubs, box.money(key))


def judge(rows: list[Row], stubs: dict[str, Stub], money: tuple[int, int]) -> None:
    """By records and ledgers alone."""
    known = {row.id: row for row in rows}
    states = Counter((row.status, row.error_code) for row in rows)
    print(f"{len(rows)} records: {dict(states)}")
    for name, stub in stubs.items():
        calls = Counter(request_of(job) for job in stub.jobs.values())
        print(f"{name}: {stub.paid} paid calls for {len(calls)} requests")
        assert stub.wrong_keys == stub.leaks == []
        assert stub.jobs, "no paid call was made: nothing was tested"
        for request_id, count in calls.items():
            row = known[request_id]
            told = [a for a in row.remote_attempts if a["provider"] == name]
            # More than one only where the first was told to have been free.
            free = [a for a in told if a["billed"] == "no"]
            assert count <= 1 + len(free), (row, told)
            assert told, f"{row} does not know of its paid call"
            assert (row.sent_to, row.sent_bytes > 0) == ("127.0.0.1", True), row
        billed = {line.job: line.amount for line in stub.invoice}
        for job in stub.jobs.values():
            row = known[request_of(job)]
            amount = round(billed.get(job.id, 0) * 1_000_000)
            doubt = any(a["billed"] == "maybe" for a in row.remote_attempts)
            assert row.cost_micros == amount or doubt, (row, amount)
            assert row.status != "completed" or row.cost_micros == amount
    spent, reserved = money
    assert reserved == 0
    assert spent == sum(row.cost_micros for row in rows)
