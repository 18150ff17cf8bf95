"""What one caller may hold of something bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.engine.client import Engine
from upscale.engine.shares import refusal
from upscale.errors import QueueFull
from upscale.settings import Settings


@pytest.mark.parametrize("limit", [1, 2, 3, 16, 1000])
def test_one_caller_alone_has_the_whole_limit_and_others_still_find_room(limit: int) -> None:
    for held in range(limit):
        assert refusal(held, held, limit) is None
    assert "one caller" in str(refusal(limit, limit, limit))
    assert refusal(0, limit, limit) is None
    full = limit + max(1, limit // 3)
    assert "all callers" in str(refusal(0, full, limit))


def test_whoever_holds_nothing_may_have_what_is_larger_than_his_part() -> None:
    assert refusal(0, 0, 100, 500) is None
    assert refusal(1, 1, 100, 100) is not None
    assert refusal(0, 100, 100, 34) is not None


@given(st.lists(st.integers(0, 5), max_size=80), st.integers(1, 12))
def test_no_order_of_callers_passes_the_bounds(asked: list[int], limit: int) -> None:
    held = [0] * 6
    for caller in asked:
        if refusal(held[caller], sum(held), limit) is None:
            held[caller] += 1
    assert max(held) <= limit
    assert sum(held) <= limit + max(1, limit // 3)


def test_a_share_that_fills_the_queue_in_front_of_a_device_leaves_room(tmp_path: Path) -> None:
    class Held(Engine):
        """Whose device never ends a Job."""

        async def _run(self, *_: Any) -> Any:
            await asyncio.Event().wait()

    async def scene() -> None:
        engine = Held(Settings(data_dir=tmp_path, queue_limit=3))
        tasks = []

        async def ask(share: str) -> None:
            job: Any = SimpleNamespace(id=str(len(tasks)), plan=SimpleNamespace(expected_seconds=1))
            tasks.append(asyncio.create_task(engine.run(job, share=share)))
            await asyncio.sleep(0)
            if tasks[-1].done():
                tasks[-1].result()

        for _ in range(3):
            await ask("many")
        with pytest.raises(QueueFull, match=r"3 jobs are waiting, about 3 s .* no more than 3"):
            await ask("many")
        await ask("few")
        with pytest.raises(QueueFull, match=r"4 jobs are waiting.* all callers"):
            await ask("third")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scene())
