"""A server whose device is played, and whose waits at providers take a tenth of their time;
arguments as of `program`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.chaos.program import run
from upscale.providers import registry
from upscale.providers.clock import Clock
from upscale.server import unsettled


def _now() -> float:
    return time.monotonic() * 10


def _sleep(seconds: float) -> object:
    return asyncio.sleep(seconds / 10)


if __name__ == "__main__":
    unsettled.LOOK_SECONDS = 3.0
    registry.Clock = lambda: Clock(_now, time.time, _sleep)  # type: ignore[assignment,misc]
    run(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
