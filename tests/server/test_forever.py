"""Work that must not die unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.server.live import serving, wait_for
from upscale.server import forever as module
from upscale.server.forever import forever
from upscale.server.spool import Spool
from upscale.settings import Settings


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The package's log, whatever other tests have made of it."""
    logger = logging.getLogger("upscale")
    before = logger.propagate, logger.level
    logger.propagate = True
    logger.setLevel(logging.INFO)
    yield caplog
    logger.propagate = before[0]
    logger.setLevel(before[1])


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it paused, without pausing."""
    paused: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        paused.append(seconds)
        await sleep(0)

    # Its own alone: other servers of these tests sleep, too.
    its_own = SimpleNamespace(**{**vars(asyncio), "sleep": note})
    monkeypatch.setattr(module, "asyncio", its_own)
    return paused


def test_what_fails_is_told_and_begun_again(
    told: pytest.LogCaptureFixture, pauses: list[float]
) -> None:
    left = [KeyError("why") for _ in range(10)]

    async def work() -> None:
        if left:
            raise left.pop()

    asyncio.run(forever("sweeping", work))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    faults = [each for each in told.records if each.exc_info]
    assert len(faults) == 10
    assert faults[0].fields["what"] == "sweeping"  # type: ignore[attr-defined]


def test_what_went_well_for_long_pauses_shortly(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    now, faults = [0.0], [None] * 4
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def work() -> None:
        now[0] += 1000.0
        if faults:
            faults.pop()
            raise OSError

    asyncio.run(forever("sweeping", work))
    assert pauses == [1, 1, 1, 1]


def test_cancelling_ends_it() -> None:
    async def main() -> None:
        task = asyncio.create_task(forever("waiting", lambda: asyncio.sleep(1000)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_server_goes_on_after_a_fault_of_its_sweeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    calls = []

    async def sweep(self: Spool) -> None:
        calls.append(None)
        if len(calls) < 3:
            raise RuntimeError("unforeseen")
        await asyncio.sleep(1000)

    monkeypatch.setattr(Spool, "sweep_forever", sweep)
    with serving(Settings(data_dir=tmp_path)):
        wait_for(lambda: len(calls) == 3)
    assert any("begun again" in each.message for each in told.records)
