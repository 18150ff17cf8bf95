"""How long a worker decodes: the progress of one Job is heard, and its process ended if need be.

Knows stages by name and nothing of what is done in them. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from upscale import logs
from upscale.engine.receipt import Progress
from upscale.errors import UnreadableImage

log = logs.get("engine")

_DECODE = "decode"


class DecodeWatch:
    """Counts from the moment in which decoding begins; what goes before is the worker's own.

    After `seconds` it calls `kill` and is `expired`. `stage` is the last one heard, "" before any;
    `listener` hears what it hears.
    """

    def __init__(
        self,
        kill: Callable[[], None],
        seconds: float,
        listener: Callable[[Progress], None] | None = None,
    ) -> None:
        self.stage = ""
        self.expired = False
        self._kill, self._seconds, self._listener = kill, seconds, listener
        self._timer: asyncio.TimerHandle | None = None

    def hear(self, event: dict[str, Any]) -> None:
        """An event of progress, as it comes over the pipe."""
        progress = Progress(**event)
        if progress.stage != self.stage:
            self._stop()
            self.stage = progress.stage
            if progress.stage == _DECODE:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._seconds, self._expire)
        if self._listener is not None:
            self._listener(progress)

    def end(self, _future: object = None) -> None:
        """Nothing more will come."""
        self._stop()

    def refusal(self) -> UnreadableImage:
        """The error for a Job whose time to decode is over."""
        return UnreadableImage(
            f"The image file could not be decoded within {self._seconds:g} seconds "
            "(UPSCALE_DECODE_TIMEOUT_SECONDS): it is broken, or far too slow to read."
        )

    def _expire(self) -> None:
        log.error("decoding takes too long", extra=logs.fields(seconds=self._seconds))
        self.expired = True
        self._kill()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
