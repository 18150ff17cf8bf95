"""A server whose device is played: the real queue in front of it, pictures of the colour of their
source, and a ledger of what was begun and made, which only grows.

    python -m tests.chaos.program FOLDER LEDGER OPTIONS     (settings and `seconds` of a Job, JSON)
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.server.fake import DEVICE, contract, receipt
from upscale.engine.client import Engine, OnProgress
from upscale.engine.device import DeviceProfile
from upscale.engine.order import JobOrder
from upscale.engine.receipt import Progress, Receipt
from upscale.errors import OutputFault
from upscale.models.facts import Facts
from upscale.server import app, main
from upscale.settings import Settings
from upscale.weights.store import Network


class Played(Engine):
    """The real engine without its worker. A Job takes `seconds`, more or less."""

    seconds = 0.02
    macs = 1
    ledger = -1

    async def start(self) -> None:
        """There is nothing to start."""

    @property
    def alive(self) -> bool:
        return True

    async def device(self) -> DeviceProfile:
        return DEVICE

    async def facts(self, network: Network) -> Facts:
        return Facts(contract(4, self.macs))

    async def _run(self, job: JobOrder, progress: OnProgress | None) -> Receipt:
        self._note("begun", job)
        begun = time.monotonic()
        total = random.uniform(0.5, 1.5) * self.seconds
        for step in range(4):
            if progress is not None:
                progress(Progress("upscale", step, 3, step * 0.1, step * 0.01))
            await asyncio.sleep(total / 4)
        try:
            await asyncio.to_thread(_make, job)
        except OSError as fault:
            job.scratch_path.unlink(missing_ok=True)
            raise OutputFault(f"Cannot write: {fault.strerror}.") from fault
        self._note("made", job)
        return receipt(job.plan, time.monotonic() - begun)

    def _note(self, what: str, job: JobOrder) -> None:
        """One write, whole or not at all."""
        if self.ledger >= 0:
            os.write(self.ledger, f"{what} {job.id} {os.getpid()}\n".encode())


def _make(job: JobOrder) -> None:
    """The result, under another name until it is whole."""
    with Image.open(job.source) as source:
        colour = source.convert("RGB").getpixel((0, 0))
    output = job.plan.output
    picture = Image.new("RGB", (output.width, output.height), colour)
    picture.save(job.scratch_path, output.format)
    job.scratch_path.replace(job.target)


def _set_clock(file: Path) -> None:
    """The wall clock of this process is off by as many seconds as `file` says."""
    now_ns, utime = time.time_ns, os.utime

    def shifted() -> int:
        return now_ns() + int(file.read_text()) * 10**9

    def touch(path: Any, times: Any = None, **more: Any) -> None:
        utime(path, times or (shifted() / 1e9, shifted() / 1e9), **more)

    time.time_ns, time.time = shifted, lambda: shifted() / 1e9
    os.utime = touch


def run(folder: Path, ledger: Path, options: dict[str, Any]) -> None:
    """Serve until it is killed or asked to stop."""
    if clock := options.pop("clock", ""):
        _set_clock(Path(clock))
    Played.seconds, Played.macs = options.pop("seconds", 0.02), options.pop("macs", 1)
    Played.ledger = os.open(ledger, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
    app.Engine = Played  # type: ignore[attr-defined,unused-ignore]
    main.serve(
        Settings(data_dir=folder, **{"port": 0, **options}),
        ready=lambda url, _: print(url, flush=True),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
