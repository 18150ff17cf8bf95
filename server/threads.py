"""Threads that wait for the database, apart from those that read and write files: a database that
is locked for seconds holds up nobody who asks nothing of it. Those that write are apart from those
that read, which a lock does not hold up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from upscale.server.records.patience import waiting_until
from upscale.server.uncut import uncut

_Result = TypeVar("_Result")

_READERS = ThreadPoolExecutor(8, thread_name_prefix="records-read")
_WRITERS = ThreadPoolExecutor(8, thread_name_prefix="records-write")

# From when a write is asked for, whatever stands before it. A request makes two that may fail, the
# second to say how it ended.
_PATIENCE_SECONDS = 5.0


async def asked(work: Callable[..., _Result], *arguments: object) -> _Result:
    """The result of `work`, which reads, or writes and is in no hurry, called in a thread."""
    return await asyncio.get_running_loop().run_in_executor(_READERS, work, *arguments)


async def whole(work: Callable[[], _Result]) -> _Result:
    """The result of `work`, which writes, done in a thread and to its end: a caller that is
    cancelled meanwhile waits for it, and is cancelled then.

    Raises RecordsFault where the database was not to be had for some seconds from now on.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS

    def in_time() -> _Result:
        with waiting_until(deadline):
            return work()

    async def written() -> _Result:
        return await asyncio.get_running_loop().run_in_executor(_WRITERS, in_time)

    return await to_its_end(written())


async def to_its_end(steps: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `steps`, all of which are done: a caller that is cancelled meanwhile waits for
    them, and is cancelled then.
    """
    result, cut = await uncut(steps)
    if cut:
        raise asyncio.CancelledError
    return result
