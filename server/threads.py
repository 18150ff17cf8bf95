"""Threads that wait for the database, apart from those that read and write files: a database that
is locked for seconds holds up nobody who asks nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")

_THREADS = ThreadPoolExecutor(8, thread_name_prefix="records")


async def asked(work: Callable[..., _Result], *arguments: object) -> _Result:
    """The result of `work`, which asks the database, called in one of those threads."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *arguments)


async def whole(work: Callable[[], _Result]) -> _Result:
    """The result of `work`, done in a thread and to its end: a caller that is cancelled meanwhile
    waits for it, and is cancelled then.
    """
    task = asyncio.ensure_future(asked(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
