"""Shares take turns: nobody starves, whatever the others ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.engine.turns import Turns

Job = tuple[str, str, int, float]
"""id, share, priority, expected seconds"""


def order_of(jobs: Sequence[Job], *, cancelled: Sequence[str] = ()) -> list[str]:
    """In which order Jobs run that all came while another one was running."""
    done: list[str] = []

    async def run() -> None:
        turns = Turns()
        gate = asyncio.Event()

        async def one(job: Job) -> None:
            name, share, priority, expected = job
            async with turns.turn(name, share=share, priority=priority, expected=expected):
                if name == "first":
                    await gate.wait()
                assert turns.position(name) == 0
                done.append(name)
                await asyncio.sleep(0)

        tasks = {"first": asyncio.create_task(one(("first", "other", 0, 1.0)))}
        for job in jobs:
            await asyncio.sleep(0)
            tasks[job[0]] = asyncio.create_task(one(job))
        await asyncio.sleep(0)
        foreseen = sorted((turns.position(name) or 0, name) for name in tasks)
        assert [place for place, _ in foreseen] == list(range(len(tasks)))
        for name in cancelled:
            tasks[name].cancel()
        gate.set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert len(turns) == 0
        assert turns.seconds == 0
        if not cancelled:
            assert done == [name for _, name in foreseen]

    asyncio.run(run())
    return done[1:]


def jobs(share: str, count: int, seconds: float = 1.0, priority: int = 0) -> list[Job]:
    return [(f"{share}{index}", share, priority, seconds) for index in range(count)]


def test_a_hundred_of_one_delay_another_by_one() -> None:
    order = order_of([*jobs("a", 100), *jobs("b", 2)])
    assert order.index("b0") <= 1
    assert order.index("b1") <= 3
    assert [name for name in order if name[0] == "a"] == [f"a{i}" for i in range(100)]


def test_turns_are_taken_by_work_and_not_by_number() -> None:
    order = order_of([*jobs("long", 5, 10.0), *jobs("short", 20)])
    assert order.index("long1") == 11


def test_a_priority_of_25_doubles_the_part_and_none_starves_anybody() -> None:
    order = order_of([*jobs("high", 40, priority=25), *jobs("low", 40)])
    assert sum(name.startswith("high") for name in order[:30]) == 20
    # Over the whole range of keys a higher one has more, the extremes beside each other, too.
    for low, high in ((0, 10), (4, 100), (-100, -4), (90, 100)):
        order = order_of([*jobs("high", 200, priority=high), *jobs("low", 200, priority=low)])
        assert sum(name.startswith("high") for name in order[:100]) > 52
    order = order_of([*jobs("high", 100, priority=100), *jobs("low", 1)])
    assert order.index("low0") < 20


def test_waiting_for_nothing_saves_nothing_up() -> None:
    order = order_of([*jobs("a", 10), *jobs("b", 10)])
    assert max(abs(order[:i].count("a") - order[:i].count("b")) for i in range(20)) <= 1
    assert [name[0] for name in order[:6]].count("b") == 3


def test_a_job_that_gives_up_leaves_the_queue() -> None:
    assert order_of(jobs("a", 4), cancelled=["a1", "a3"]) == ["a0", "a2"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(-100, 100), st.floats(0, 1e6)), max_size=12
    ),
    st.sets(st.integers(0, 11)),
)
def test_everybody_runs_once_in_the_order_foretold(
    asked: list[tuple[str, int, float]], given_up: set[int]
) -> None:
    named = [(str(index), *job) for index, job in enumerate(asked)]
    gone = [name for name, *_ in named if int(name) in given_up]
    assert sorted(order_of(named)) == sorted(name for name, *_ in named)
    assert sorted(order_of(named, cancelled=gone)) == sorted(
        name for name, *_ in named if name not in gone
    )


def test_a_job_that_is_cancelled_counts_for_what_it_has_done() -> None:
    """A share that cancels a long Job at once is not kept waiting for it."""

    async def run(cancel: bool) -> list[str]:
        turns, done, over = Turns(), [], asyncio.Event()

        async def one(name: str, share: str, expected: float) -> None:
            async with turns.turn(name, share=share, priority=0, expected=expected):
                if name in ("gate", "long"):
                    await over.wait()
                done.append(name)
                await asyncio.sleep(0)

        async def start(*job: Any) -> asyncio.Task[None]:
            task = asyncio.create_task(one(*job))
            await asyncio.sleep(0)
            return task

        long = await start("long", "a", 1000.0)
        tasks = [await start(f"b{n}", "b", 1.0) for n in range(10)]
        tasks.append(await start("a0", "a", 1.0))
        if cancel:
            long.cancel()
        over.set()
        await asyncio.gather(long, *tasks, return_exceptions=True)
        return done

    assert asyncio.run(run(cancel=True)).index("a0") <= 1
    assert asyncio.run(run(cancel=False))[-1] == "a0"


def test_shares_are_counted_apart() -> None:
    async def run() -> None:
        turns = Turns()
        async with turns.turn("a", share="a", priority=0, expected=1):
            waiting = asyncio.create_task(_wait(turns))
            await asyncio.sleep(0)
            assert (turns.of("a"), turns.of("b"), turns.of("c"), len(turns)) == (1, 1, 0, 2)
        await waiting
        assert turns.of("b") == 0

    async def _wait(turns: Turns) -> None:
        async with turns.turn("b", share="b", priority=0, expected=1):
            pass

    asyncio.run(run())


def test_a_turn_that_fails_is_over() -> None:
    async def run() -> None:
        turns = Turns()
        with pytest.raises(ZeroDivisionError):
            async with turns.turn("a", share="", priority=0, expected=1):
                raise ZeroDivisionError
        async with asyncio.timeout(5), turns.turn("b", share="", priority=0, expected=1):
            assert len(turns) == 1

    asyncio.run(run())
