"""A worker process and the JSON lines to and from it; see `engine.worker` for the messages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upscale import logs
from upscale.engine.device import DeviceProfile
from upscale.errors import UpscaleError
from upscale.settings import Settings

log = logs.get("engine")

# Lines carry plans and receipts; far above any of them.
_LINE_LIMIT = 16 << 20

# What a worker gets to leave by itself, in seconds.
_GRACE = 5.0


class WorkerGone(Exception):
    """The process ended while something was expected of it. Never leaves the engine."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"worker ended with {code}")
        self.code = code


@dataclass(frozen=True)
class Call:
    """An order under way: its number, and the future of its result."""

    id: int
    future: asyncio.Future[dict[str, Any]]


class WorkerPipe:
    """One worker process, alive or not. Make it with `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._on_progress: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._ready: asyncio.Future[DeviceProfile] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def spawn(cls, settings: Settings) -> WorkerPipe:
        """Start a process; it reads its settings and imports torch while this returns."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "upscale.engine.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        pipe = cls(process)
        pipe._send({"op": "start", "settings": settings.model_dump(mode="json")})
        log.info("worker started", extra=logs.fields(pid=process.pid))
        return pipe

    @property
    def alive(self) -> bool:
        """Whether the process runs and its pipe is open."""
        return self._process.returncode is None and not self._reader.done()

    @property
    def pid(self) -> int:
        """The process, for those who watch or kill it."""
        return self._process.pid

    async def ready(self) -> DeviceProfile:
        """The device, once the worker has reported it. Raises WorkerGone or what it reported."""
        return await asyncio.shield(self._ready)

    def call(
        self,
        op: str,
        *,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        **payload: Any,
    ) -> Call:
        """Send an order; its future gives the result, an UpscaleError, or WorkerGone."""
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if not self.alive:
            future.set_exception(WorkerGone(self._process.returncode))
            return Call(number, future)
        self._calls[number] = future
        if on_progress is not None:
            self._on_progress[number] = on_progress
        self._send({"op": op, "id": number, **payload})
        return Call(number, future)

    def cancel(self, number: int) -> None:
        """Ask for the end of an order; its future still ends by the worker's word."""
        self._send({"op": "cancel", "id": number})

    def kill(self) -> None:
        """End the process now; what was expected of it ends with WorkerGone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """Close the input and wait; kill what does not leave in time."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        except TimeoutError:
            log.warning("worker killed", extra=logs.fields(pid=self.pid))
            self.kill()
            await self._process.wait()
        await self._reader

    def _send(self, message: dict[str, Any]) -> None:
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                self._hear(json.loads(line))
        finally:
            # Also when a message made no sense: a process that is not understood is of no use.
            if self._process.returncode is None and not self._process.stdout.at_eof():
                self.kill()
            code = await self._process.wait()
            pending: list[asyncio.Future[Any]] = [self._ready, *self._calls.values()]
            for future in pending:
                if not future.done():
                    future.set_exception(WorkerGone(code))
                    # Some have no reader any more; that is no reason for a complaint at exit.
                    future.exception()
            self._calls.clear()

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "ready":
            self._ready.set_result(DeviceProfile.from_json(event["device"]))
            return
        if kind == "failed":
            self._ready.set_exception(UpscaleError.from_wire(event["error"]))
            return
        number = event.pop("id")
        if kind == "progress":
            if number in self._on_progress:
                self._on_progress[number](event)
            return
        self._on_progress.pop(number, None)
        future = self._calls.pop(number, None)
        if future is None or future.done():
            return
        if kind == "error":
            future.set_exception(UpscaleError.from_wire(event["error"]))
            future.exception()
        else:
            future.set_result(event["result"])
