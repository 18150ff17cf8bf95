"""The work of this process by request, so that it can be cancelled by the request's id."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from starlette.requests import Request

from upscale import logs
from upscale.errors import JobCancelled

log = logs.get("server")

_Result = TypeVar("_Result")


class Running:
    """Tasks by the ids of their requests. Belongs to the event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Future[Any]] = {}

    @contextlib.contextmanager
    def holding(self, request_id: str, task: asyncio.Future[Any]) -> Iterator[None]:
        """Meanwhile `cancel` finds it."""
        self._tasks[request_id] = task
        try:
            yield
        finally:
            # A job in the background may have begun before the reply that accepts it is sent.
            if self._tasks.get(request_id) is task:
                del self._tasks[request_id]

    def holds(self, request_id: str) -> bool:
        """Whether the work of a request goes on here."""
        return request_id in self._tasks

    async def cancel(self, request_id: str) -> bool:
        """Cancel and await the work of a request; False where none is at work here."""
        task = self._tasks.get(request_id)
        if task is None:
            return False
        task.cancel()
        await asyncio.wait((task,))
        return True


async def while_connected(
    request: Request, running: Running, work: Coroutine[Any, Any, _Result]
) -> _Result:
    """The result of `work`, which is cancelled when the caller goes away or somebody asks for it.

    Raises JobCancelled then.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        with running.holding(request.state.request_id, task):
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            log.info("caller gone", extra=logs.fields(request=request.state.request_id))
            raise JobCancelled("The caller closed the connection.")
        if task.cancelled():
            raise JobCancelled("The request was cancelled.")
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
            # Ended before the request's folder is removed.
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await each


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
