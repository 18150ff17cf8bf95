"""How much a key asks for in a minute: buckets that fill up again as time goes by.

In memory, for one server process: a restart fills them. Monotonic time, so that a clock that jumps
opens and closes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from upscale.errors import RateLimited

_MINUTE = 60.0
# Buckets of keys that have not been seen for a while are full again, and are let go of.
_MOST = 10_000


@dataclass
class _Bucket:
    left: float
    at: float


class Meter:
    """Counts `unit` for names, each with a limit a minute of its own.

    A bucket holds a minute's worth, and no less than `least`, which must be left for anything to
    pass: where half a request a minute is allowed, one passes every other minute. What is larger
    than what is left may pass while anything is left, and leaves a debt to wait for: a result that
    is larger than the limit can be had, too.
    """

    def __init__(
        self, unit: str, least: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unit, self._least, self._clock = unit, least, clock
        self._buckets: dict[str, _Bucket] = {}

    def check(self, name: str, limit: float | None) -> None:
        """Raise RateLimited, with the time to wait, where nothing or less than `least` is left."""
        if limit is None:
            return
        left = self._bucket(name, limit).left
        if left <= 0 or left < self._least:
            raise RateLimited(
                f"This key may use {limit:g} {self._unit} a minute, and has.",
                retry_after=int((self._least - left) / limit * _MINUTE) + 1,
            )

    def take(self, name: str, limit: float | None, amount: float) -> None:
        """Count `amount`; what `check` allows."""
        if limit is not None:
            self._bucket(name, limit).left -= amount

    def _bucket(self, name: str, limit: float) -> _Bucket:
        now, most = self._clock(), max(limit, self._least)
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _MOST:
                self._buckets.clear()
            bucket = self._buckets[name] = _Bucket(most, now)
        bucket.left = min(most, bucket.left + (now - bucket.at) * limit / _MINUTE)
        bucket.at = now
        return bucket
