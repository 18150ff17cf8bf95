"""Torch-free helper processes that read headers for the server.

A header can come from anyone and the libraries that read it are C: so a crash or an endless loop
costs a helper process, never the server; time and memory of a helper are limited. Each helper is a
process pool of one, so that one can be killed without the others. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import Any

from upscale.errors import Draining, ServerFault, UnreadableImage, UpscaleError
from upscale.imaging.guard import HEADER_BYTES, limit_process
from upscale.imaging.probe import Probe
from upscale.imaging.probing import probe as probe_here

# A helper starts in about half a second; this is for a machine that is busy with other things.
_START_SECONDS = 60.0


class PixelPool:
    """`workers` helpers, started when first needed. Use it from one event loop."""

    def __init__(self, workers: int, *, seconds: float = 20.0) -> None:
        self._helpers = [_Helper(seconds) for _ in range(workers)]
        self._idle: asyncio.Queue[_Helper] = asyncio.Queue()
        for helper in self._helpers:
            self._idle.put_nowait(helper)

    async def probe(self, path: Path) -> Probe:
        """`imaging.probing.probe` in a helper.

        Raises UnreadableImage, also after `seconds` and if helpers die twice over the file.
        """
        helper = await self._idle.get()
        task = asyncio.ensure_future(helper.probe(path))

        def give_back(done: asyncio.Future[Probe]) -> None:
            if not done.cancelled():
                done.exception()  # looked at, so that an abandoned one is not logged
            self._idle.put_nowait(helper)

        task.add_done_callback(give_back)
        # Shielded: a caller that goes away must not free a helper that is still at work.
        return await asyncio.shield(task)

    def close(self) -> None:
        """End the helpers, at work or not."""
        for helper in self._helpers:
            helper.close()


class _Helper:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._executor: ProcessPoolExecutor | None = None
        self._pid = 0
        self._busy = self._closed = False

    async def probe(self, path: Path) -> Probe:
        self._busy = True
        try:
            for _attempt in (1, 2):
                try:
                    return _unpacked(await self._run(path))
                except (BrokenProcessPool, asyncio.CancelledError):
                    if self._closed:
                        raise _closing() from None
                    self._drop()
        finally:
            self._busy = False
        raise UnreadableImage(
            "The process that reads image headers died twice over this file: it is broken."
        )

    def close(self) -> None:
        self._closed = True
        if self._busy:
            self._kill()
        self._drop()

    async def _run(self, path: Path) -> dict[str, Any]:
        if self._executor is None and not self._closed:
            await self._start()
        if self._closed:
            raise _closing()
        try:
            return await asyncio.wait_for(self._call(_probe_task, str(path)), self._seconds)
        except TimeoutError:
            self._kill()
            self._drop()
            raise UnreadableImage(
                f"The image file's header could not be read within {self._seconds:g} seconds; "
                "it is broken."
            ) from None

    async def _start(self) -> None:
        self._executor = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_process
        )
        try:
            self._pid = await asyncio.wait_for(self._call(os.getpid), _START_SECONDS)
        except TimeoutError:
            self._drop()
            raise ServerFault("The process that reads image headers does not start.") from None

    def _call(self, function: Any, *arguments: Any) -> asyncio.Future[Any]:
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


def _unpacked(answer: dict[str, Any]) -> Probe:
    if "error" in answer:
        raise UpscaleError.from_wire(answer["error"])
    return Probe.from_json(answer["probe"])


def _probe_task(path: str) -> dict[str, Any]:
    """Runs in a helper; the answer is plain data."""
    try:
        return {"probe": probe_here(Path(path)).to_json()}
    except UpscaleError as error:
        return {"error": error.to_wire()}


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    limit_process(HEADER_BYTES)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
