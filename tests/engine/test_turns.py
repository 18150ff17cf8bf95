"""Shares take turns: nobody starves, whatever the others ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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


def test_a_priority_doubles_the_part_and_starves_nobody() -> None:
    order = order_of([*jobs("high", 40, priority=1), *jobs("low", 40)])
    assert sum(name.startswith("high") for name in order[:30]) == 20
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
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9), st.floats(0, 1e6)), max_size=12),
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


def test_a_turn_that_fails_is_over() -> None:
    async def run() -> None:
        turns = Turns()
        with pytest.raises(ZeroDivisionError):
            async with turns.turn("a", share="", priority=0, expected=1):
                raise ZeroDivisionError
        async with asyncio.timeout(5), turns.turn("b", share="", priority=0, expected=1):
            assert len(turns) == 1

    asyncio.run(run())
