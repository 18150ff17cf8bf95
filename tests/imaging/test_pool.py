import asyncio
import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.imaging.samples import samples
from upscale.errors import Draining, UnreadableImage
from upscale.imaging.pool import PixelPool
from upscale.imaging.probing import probe


def _run(work, workers=1, **options):
    """Await `work(pool)` in a loop of its own."""

    async def main():
        pool = PixelPool(workers, **options)
        try:
            return await asyncio.wait_for(work(pool), 60)
        finally:
            pool.close()

    return asyncio.run(main())


def test_helpers_answer_as_probing_does_and_survive_the_death_of_one(rgb_jpeg, tmp_path):
    text = tmp_path / "words.png"
    text.write_text("words")

    async def work(pool):
        assert await pool.probe(rgb_jpeg) == probe(rgb_jpeg)
        with pytest.raises(UnreadableImage, match="is text") as caught:
            await pool.probe(text)
        assert caught.value.field == "image"
        helper = _children()[0]
        helper.kill()
        helper.wait(10)
        assert await pool.probe(rgb_jpeg) == probe(rgb_jpeg)
        return _children()

    left = _run(work)
    psutil.wait_procs(left, 10)
    assert not [child for child in left if child.is_running()]


def test_a_probe_that_takes_too_long_is_refused_and_its_helper_replaced(rgb_jpeg, tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # opening it for reading waits for a writer that never comes

    async def work(pool):
        with pytest.raises(UnreadableImage, match=r"within 0\.5 seconds"):
            await pool.probe(pipe)
        return await pool.probe(rgb_jpeg)

    assert _run(work, seconds=0.5) == probe(rgb_jpeg)


def test_a_caller_that_goes_away_does_not_cost_a_helper(rgb_jpeg, tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)

    async def work(pool):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.probe(pipe), 0.1)
        return await asyncio.gather(*(pool.probe(rgb_jpeg) for _ in range(20)))

    assert _run(work, workers=2, seconds=1.0) == [probe(rgb_jpeg)] * 20


def test_closing_ends_a_probe_at_work_and_refuses_new_ones(rgb_jpeg, tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)

    async def work(pool):
        assert await pool.probe(rgb_jpeg)
        stuck = asyncio.ensure_future(pool.probe(pipe))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(Draining):
            await stuck
        with pytest.raises(Draining):
            await pool.probe(rgb_jpeg)

    began = time.monotonic()
    _run(work)
    assert time.monotonic() - began < 15


def test_a_file_that_kills_two_helpers_is_refused(rgb_jpeg, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    from upscale.imaging import helpers as module

    calls = []

    async def die(_helper, _work, arguments, _seconds):
        calls.append(*arguments)
        raise BrokenProcessPool

    monkeypatch.setattr(module._Helper, "_run", die)
    with pytest.raises(UnreadableImage, match="twice"):
        _run(lambda pool: pool.probe(rgb_jpeg))
    assert calls == [str(rgb_jpeg)] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="no limit on memory here")
def test_a_header_that_wants_too_much_memory_is_refused_and_its_helper_lives(rgb_jpeg, tmp_path):
    # A still of 26 x 19 pixels that states a canvas for which libwebp wants 2 GB.
    huge = tmp_path / "huge.webp"
    data = bytearray(samples("webp")["animated"])
    data[24:30] = b"\xfe\x3f\0" * 2
    huge.write_bytes(data)

    async def work(pool):
        assert await pool.probe(rgb_jpeg) == probe(rgb_jpeg)
        before = _children()
        with pytest.raises(UnreadableImage, match="too large for the memory"):
            await pool.probe(huge)
        assert await pool.probe(rgb_jpeg) == probe(rgb_jpeg)
        assert _children() == before

    _run(work)


def test_the_room_loads_without_torch():
    code = (
        "import sys, upscale.imaging.pool, upscale.imaging.decode, upscale.imaging.sinks\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _children():
    """The helpers among the child processes (the other is multiprocessing's own tracker)."""
    found = psutil.Process().children()
    return [child for child in found if "spawn_main" in " ".join(child.cmdline())]
