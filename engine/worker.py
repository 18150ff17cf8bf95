"""The device worker: a process of its own that owns one device and runs Jobs in order.

Speaks JSON lines: settings first, then orders on standard input; events on standard output.
`engine.client` is the other end. Dies with its parent: end of input stops it, running Job included.

    in:  {"op": "start", "settings": {…}}           out: {"event": "ready", "device": {…}}
         {"op": "facts", "id": 1, "network": {…}}        {"event": "done", "id": 1, "result": {…}}
         {"op": "run", "id": 2, "order": {…}}            {"event": "progress", "id": 2, …}
         {"op": "cancel", "id": 2}                       {"event": "error", "id": 2, "error": {…}}
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from typing import IO, Any

from upscale import logs
from upscale.engine.memory import keep_freed_memory
from upscale.errors import JobCancelled, ServerFault, UpscaleError
from upscale.settings import Settings

log = logs.get("engine")

# Progress events at most so often, in seconds.
_PROGRESS_EVERY = 0.1


def main() -> None:
    """Run until the input ends."""
    # Ctrl-C in a terminal reaches the whole group; the parent decides when this process stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only events go to the pipe; anything that a library prints goes to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    keep_freed_memory()
    Worker(sys.stdin, out).run()


class Worker:
    """Reads orders in a thread of its own, so that a cancel is heard while a Job runs."""

    def __init__(self, inbox: IO[str], out: IO[str]) -> None:
        self._inbox = inbox
        self._out = out
        self._out_lock = threading.Lock()
        self._orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._pending: set[int] = set()
        self._cancelled: set[int] = set()
        self._closed = False

    def run(self) -> None:
        """Serve orders until the input ends."""
        settings = Settings(**json.loads(self._inbox.readline())["settings"])
        logs.setup(settings.log_level, settings.log_format)
        try:
            # Torch is imported here, after the allocator was told how to behave.
            from upscale.engine.session import Session

            session = Session(settings)
        except Exception as error:
            self._send({"event": "failed", "error": _wire(error)})
            return
        self._send({"event": "ready", "device": session.device.to_json()})
        threading.Thread(target=self._read, name="orders", daemon=True).start()
        while (order := self._orders.get()) is not None:
            try:
                self._send({"event": "done", "id": order["id"], "result": self._do(session, order)})
            except Exception as error:
                self._send({"event": "error", "id": order["id"], "error": _wire(error)})
            self._pending.discard(order["id"])
            self._cancelled.discard(order["id"])

    def _read(self) -> None:
        for line in self._inbox:
            message = json.loads(line)
            if message["op"] != "cancel":
                self._pending.add(message["id"])
                self._orders.put(message)
            elif message["id"] in self._pending:
                self._cancelled.add(message["id"])
        self._closed = True
        self._orders.put(None)

    def _do(self, session: Any, message: dict[str, Any]) -> dict[str, Any]:
        from upscale.engine.order import JobOrder
        from upscale.engine.plan import NetworkRef

        number: int = message["id"]
        if self._stopped(number):
            raise JobCancelled("The job was cancelled.")
        if message["op"] == "facts":
            facts = session.facts(NetworkRef(**message["network"]))
            # The facts themselves are on disk, where the parent reads them; they go along for
            # the case that the folder cannot be written.
            return facts.to_json()  # type: ignore[no-any-return]
        receipt = session.run(
            JobOrder.from_json(message["order"]),
            progress=_Throttled(self, number),
            cancelled=lambda: self._stopped(number),
        )
        return receipt.to_json()  # type: ignore[no-any-return]

    def _stopped(self, number: int) -> bool:
        return self._closed or number in self._cancelled

    def _send(self, event: dict[str, Any]) -> None:
        with self._out_lock:
            try:
                self._out.write(json.dumps(event) + "\n")
                self._out.flush()
            except BrokenPipeError:
                self._closed = True


class _Throttled:
    """Progress as events, not more often than anyone looks; each stage is told when it begins."""

    def __init__(self, worker: Worker, number: int) -> None:
        self._worker = worker
        self._number = number
        self._next = 0.0
        self._stage = ""

    def __call__(self, progress: Any) -> None:
        now = time.monotonic()
        same = progress.stage == self._stage
        if same and now < self._next and progress.tiles_done < progress.tiles_total:
            return
        self._stage = progress.stage
        self._next = now + _PROGRESS_EVERY
        self._worker._send({"event": "progress", "id": self._number, **vars(progress)})


def _wire(error: Exception) -> dict[str, Any]:
    if isinstance(error, UpscaleError):
        return error.to_wire()
    log.error("unexpected error in the worker", exc_info=error)
    return ServerFault(f"Unexpected error in the worker: {type(error).__name__}.").to_wire()


if __name__ == "__main__":
    main()
