"""What was acknowledged is there after `kill -9`, at whatever moment; and the file is whole."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.records.conftest import opened
from upscale.server.records.keys import KeyRing
from upscale.server.records.recovery import recover
from upscale.server.records.requests import RequestLog

# Says `id state` after each step that was committed. Four threads, one key.
WRITER = """
import sys, threading
from upscale.server.records.database import Database
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival
from upscale.server.records.spending import Spending

database = Database(sys.argv[1])
database.open()
log, spending, key = RequestLog(database), Spending(database), sys.argv[2]

def work(thread):
    for number in range(100_000):
        name = f"{sys.argv[3]}-{thread}-{number}"
        log.arrive(Arrival(name, "/x", key_id=key, background=number % 2 == 0, order="x" * 2000))
        tell(name, "pending")
        spending.reserve(name, key, 10)
        tell(name, "reserved")
        log.change(name, status="processing")
        tell(name, "processing")
        log.finish(name, "completed", cost_micros=10, reply="y" * 2000)
        tell(name, "completed")

def tell(name, state):
    sys.stdout.write(f"{name} {state}\\n")
    sys.stdout.flush()

for thread in range(4):
    threading.Thread(target=work, args=(thread,)).start()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_a_killed_process_acknowledged_is_there(url: str, seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    with opened(url) as database:
        key = KeyRing(database).create("one")[0].id
    told: dict[str, str] = {}
    for life in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, url, key, f"l{life}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = []
        for _ in range(draw.randrange(1, 250)):
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()  # what it had said until then
        process.wait(30)
        for line in lines:
            if line.endswith("\n") and line.count(" ") == 1:
                name, state = line.split()
                told[name] = state
    with opened(url) as database:
        if database.file is not None:
            (whole,) = sqlite3.connect(database.file).execute("PRAGMA integrity_check").fetchone()
            assert whole == "ok"
        log = RequestLog(database)
        spent = sum(row.cost_micros for row in _every(log) if row.status == "completed")
        _check(log, told)
        recover(database, "")
        now = KeyRing(database).get(key)
        assert now.spent_micros == spent
        waiting = [row for row in _every(log) if row.reserve_state == "reserved"]
        assert now.reserved_micros == 10 * len(waiting)
        assert all(row.background and row.status == "pending" for row in waiting)
        assert not [row for row in _every(log) if not row.background and not row.ended]


_STEPS = ["pending", "reserved", "processing", "completed"]


def _check(log: RequestLog, told: dict[str, str]) -> None:
    """Each record is at least where its process said that it was."""
    for name, state in told.items():
        row = log.get(name)
        assert row is not None, name
        step = _STEPS.index(row.status)
        if row.status == "pending" and row.reserve_state == "reserved":
            step = 1
        assert step >= _STEPS.index(state), (name, state, row)


def _every(log: RequestLog) -> list:  # type: ignore[type-arg]
    page = log.page(limit=100)
    found = list(page.rows)
    while page.older:
        page = log.page(limit=100, starting_after=found[-1].id)
        found += page.rows
    return found
