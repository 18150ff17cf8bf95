"""The device worker as a real process: order, progress, cancelling, death and replacement."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.engine.conftest import write_picture
from upscale.engine.client import Engine
from upscale.engine.order import JobOrder
from upscale.engine.receipt import Progress
from upscale.errors import Draining, QueueFull, UnreadableImage, WorkerDied
from upscale.settings import Settings

Order = Callable[..., JobOrder]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Engine]:
    engine = Engine(settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 120))


def _pid(engine: Engine) -> int:
    assert engine._worker is not None
    return engine._worker.pid


def test_jobs_run_in_another_process_with_progress_and_receipt(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    job = order(write_picture(tmp_path / "in.png", 90, 80), tile=32)
    seen: list[Progress] = []

    async def scene() -> None:
        async with running(settings) as engine:
            assert (await engine.device()).device == "cpu"
            receipt = await engine.run(job, seen.append)
            assert receipt.tiles["done"] == 9
            assert receipt.attempts == 1
            assert _pid(engine) != os.getpid()

    run(scene())
    assert Image.open(job.target).size == (180, 160)
    assert seen[-1].tiles_done == 9


def test_an_error_keeps_its_class_over_the_pipe_and_the_worker_lives(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    good = write_picture(tmp_path / "good.png", 40, 40)
    bad = write_picture(tmp_path / "bad.png", 64, 64)
    broken = order(bad)
    bad.write_bytes(bad.read_bytes()[:1500])

    async def scene() -> None:
        async with running(settings) as engine:
            with pytest.raises(UnreadableImage) as caught:
                await engine.run(broken)
            assert caught.value.field == "image"
            assert (await engine.run(order(good))).size["width"] == 80

    run(scene())


def _slow(order: Order, tmp_path: Path, name: str = "slow") -> JobOrder:
    """Some seconds of work in small tiles."""
    source = write_picture(tmp_path / f"{name}.png", 1400, 1000)
    job = order(source, tile=48)
    return replace(job, id=name, target=tmp_path / f"{name}-out.png")


def test_a_worker_killed_in_the_middle_is_replaced_and_its_job_runs_again(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    job = _slow(order, tmp_path)

    async def scene() -> None:
        async with running(settings) as engine:
            killed: list[int] = []

            def kill_once(progress: Progress) -> None:
                if progress.tiles_done > 3 and not killed:
                    killed.append(_pid(engine))
                    os.kill(killed[0], signal.SIGKILL)

            receipt = await engine.run(job, kill_once)
            assert receipt.attempts == 2
            assert killed[0] != _pid(engine)

    run(scene())
    assert Image.open(job.target).size == (2800, 2000)
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*.part"))


def test_a_job_that_kills_its_worker_twice_fails_with_a_clear_error(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    job = _slow(order, tmp_path)

    async def scene() -> None:
        async with running(settings) as engine:

            def kill_always(progress: Progress) -> None:
                if progress.tiles_done > 3:
                    os.kill(_pid(engine), signal.SIGKILL)

            with pytest.raises(WorkerDied, match="twice"):
                await engine.run(job, kill_always)
            small = order(write_picture(tmp_path / "next.png", 30, 30))
            assert (await engine.run(small)).size["width"] == 60

    run(scene())
    assert not job.target.exists()
    assert not list(tmp_path.glob(".*.part"))


def _endless(order: Order, tmp_path: Path) -> JobOrder:
    """A Job whose file turned into one that is never read to its end."""
    source = write_picture(tmp_path / "endless.png", 30, 30)
    job = replace(order(source), id="endless", target=tmp_path / "endless-out.png")
    source.unlink()
    os.mkfifo(source)  # opening it waits for a writer that never comes
    return job


def test_decoding_that_takes_too_long_is_refused_at_once_and_the_worker_replaced(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    good = order(write_picture(tmp_path / "good.png", 40, 40))
    short = settings.model_copy(update={"decode_timeout_seconds": 3.0})
    stages: list[str] = []

    async def scene() -> None:
        async with running(short) as engine:
            await engine.run(good)
            before, began = _pid(engine), time.monotonic()
            waiting = asyncio.create_task(engine.run(_endless(order, tmp_path)))
            next_one = asyncio.create_task(
                engine.run(replace(good, replace=True), lambda seen: stages.append(seen.stage))
            )
            with pytest.raises(UnreadableImage, match=r"within 3 seconds \(UPSCALE_DECODE_TIMEOUT"):
                await waiting
            assert time.monotonic() - began < 6  # once, not twice
            assert (await next_one).attempts == 1
            assert _pid(engine) != before

    run(scene())
    assert stages[:2] == ["decode", "load"]
    assert stages[-1] == "upscale"


def test_a_caller_that_leaves_an_endless_decode_does_not_block_the_next_job(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    good = order(write_picture(tmp_path / "good.png", 40, 40))
    short = settings.model_copy(update={"decode_timeout_seconds": 2.0})

    async def scene() -> None:
        async with running(short) as engine:
            begun = asyncio.Event()
            task = asyncio.create_task(engine.run(_endless(order, tmp_path), lambda _: begun.set()))
            await begun.wait()
            task.cancel()
            assert (await engine.run(good)).attempts == 2  # the first went down with its worker

    run(scene())


def test_a_file_that_ends_its_worker_twice_while_it_is_decoded_is_to_blame(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    killed: list[int] = []

    async def scene() -> None:
        async with running(settings) as engine:

            def kill(progress: Progress) -> None:
                assert progress.stage == "decode"
                killed.append(_pid(engine))
                os.kill(killed[-1], signal.SIGKILL)

            with pytest.raises(UnreadableImage, match="twice") as caught:
                await engine.run(_endless(order, tmp_path), kill)
            assert caught.value.field == "image"

    run(scene())
    assert len(set(killed)) == 2


def test_cancelling_frees_the_worker_within_tiles_and_removes_the_files(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    job = _slow(order, tmp_path)

    async def scene() -> None:
        async with running(settings) as engine:
            begun = asyncio.Event()
            task = asyncio.create_task(engine.run(job, lambda _: begun.set()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            small = order(write_picture(tmp_path / "next.png", 30, 30))
            await engine.run(small)
            assert engine.waiting == 0

    run(scene())
    assert not job.target.exists()
    assert not list(tmp_path.glob(".*.part"))


def test_a_full_queue_answers_at_once_with_a_time(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    narrow = settings.model_copy(update={"queue_limit": 2})
    jobs = [_slow(order, tmp_path, f"slow-{n}") for n in range(3)]

    async def scene() -> None:
        async with running(narrow) as engine:
            tasks = [asyncio.create_task(engine.run(job)) for job in jobs[:2]]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull) as caught:
                await engine.run(jobs[2])
            assert 1 <= caught.value.retry_after <= 60
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(scene())


def test_draining_lets_the_running_job_finish_and_takes_no_more(
    settings: Settings, order: Order, tmp_path: Path
) -> None:
    job = order(write_picture(tmp_path / "in.png", 300, 300), tile=48)
    late = replace(job, id="late", target=tmp_path / "late.png")

    async def scene() -> None:
        engine = Engine(settings)
        await engine.start()
        begun = asyncio.Event()
        task = asyncio.create_task(engine.run(job, lambda _: begun.set()))
        await begun.wait()
        closing = asyncio.create_task(engine.close(60))
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await engine.run(late)
        assert (await task).size["width"] == 600
        await closing
        assert not engine.alive

    run(scene())


def test_a_worker_whose_parent_vanishes_ends() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "upscale.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    start = {"op": "start", "settings": Settings().model_dump(mode="json")}
    process.stdin.write(json.dumps(start).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["event"] == "ready"
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


def test_a_device_that_is_not_there_is_told(settings: Settings) -> None:
    wrong = settings.model_copy(update={"device": "cuda:7"})

    async def scene() -> None:
        engine = Engine(wrong)
        await engine.start()
        with pytest.raises(Exception, match="UPSCALE_DEVICE"):
            await engine.device()
        await engine.close()

    run(scene())
