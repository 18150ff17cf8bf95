"""Helper processes, each a process pool of one, so that one can be killed without the others.

What they are given can come from anyone and the libraries that read it are C: so a crash or an
endless loop costs a helper, never the server. Knows nothing of pictures.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

from upscale.errors import Draining, ServerFault

# A helper starts in about half a second; this is for a machine that is busy with other things.
_START_SECONDS = 60.0


class Lost(Exception):
    """Helpers died twice over the work, or it took longer than its `seconds`."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.seconds = seconds


class Helpers:
    """`workers` helpers, started when first needed. Use it from one event loop.

    `what` they do is for messages; `begin` is called in each, and importable there.
    """

    def __init__(self, workers: int, what: str, begin: Callable[[], None] | None = None) -> None:
        self._all = [_Helper(what, begin) for _ in range(workers)]
        self._idle: asyncio.Queue[_Helper] = asyncio.Queue()
        for helper in self._all:
            self._idle.put_nowait(helper)

    async def run(self, work: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """What `work` returns in the next idle helper: both importable there, and plain data.

        Raises Lost, Draining.
        """
        helper = await self._idle.get()
        task = asyncio.ensure_future(helper.run(work, arguments, seconds))

        def give_back(done: asyncio.Future[Any]) -> None:
            if not done.cancelled():
                done.exception()  # looked at, so that an abandoned one is not logged
            self._idle.put_nowait(helper)

        task.add_done_callback(give_back)
        # Shielded: a caller that goes away must not free a helper that is still at work.
        return await asyncio.shield(task)

    def close(self) -> None:
        """End the helpers, at work or not."""
        for helper in self._all:
            helper.close()


class _Helper:
    def __init__(self, what: str, begin: Callable[[], None] | None) -> None:
        self._what, self._begin = what, begin
        self._executor: ProcessPoolExecutor | None = None
        self._pid = 0
        self._busy = self._closed = False

    async def run(
        self, work: Callable[..., Any], arguments: tuple[Any, ...], seconds: float
    ) -> Any:
        self._busy = True
        try:
            for _attempt in (1, 2):
                try:
                    return await self._run(work, arguments, seconds)
                except (BrokenProcessPool, asyncio.CancelledError):
                    if self._closed:
                        raise _closing() from None
                    self._drop()
        finally:
            self._busy = False
        raise Lost

    def close(self) -> None:
        self._closed = True
        if self._busy:
            self._kill()
        self._drop()

    async def _run(
        self, work: Callable[..., Any], arguments: tuple[Any, ...], seconds: float
    ) -> Any:
        if self._executor is None and not self._closed:
            await self._start()
        if self._closed:
            raise _closing()
        try:
            return await asyncio.wait_for(self._call(work, *arguments), seconds)
        except TimeoutError:
            self._kill()
            self._drop()
            raise Lost(seconds) from None

    async def _start(self) -> None:
        self._executor = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_process,
            initargs=(self._begin,),
        )
        try:
            self._pid = await asyncio.wait_for(self._call(os.getpid), _START_SECONDS)
        except TimeoutError:
            self._drop()
            raise ServerFault(f"The process that {self._what} does not start.") from None

    def _call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        assert self._executor is not None
        future: Future[Any] = self._executor.submit(function, *arguments)
        return asyncio.wrap_future(future)

    def _kill(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._pid = 0

    def _drop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor, self._pid = None, 0


def _closing() -> Draining:
    return Draining("The server is shutting down.")


def _prepare_process(begin: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    if begin is not None:
        begin()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
