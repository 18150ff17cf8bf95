"""Time, as the adapters see it; tests put their own in its place."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """`now` in seconds that only go forward, `wall` in unix seconds, `jitter` from 0 to 1."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def spread(self, seconds: float) -> float:
        """`seconds`, up to a tenth more or less."""
        return seconds * (0.9 + 0.2 * self.jitter())
