"""What is done to its end although whoever asked for it is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def uncut(work: Coroutine[Any, Any, _Result]) -> tuple[_Result, bool]:
    """The result of `work`, and whether the caller was cancelled meanwhile, which he has to heed
    himself then. Raises what `work` raises; CancelledError where both happened.
    """
    task, cut = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cut = True
    if cut and (task.cancelled() or task.exception() is not None):
        raise asyncio.CancelledError
    return task.result(), cut
