"""Work that goes on for as long as the server does. What it raises is logged, and it is begun again
after a while: a server that no longer sweeps or forgets would look healthy until its disk is full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from upscale import logs

log = logs.get("server")

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0


async def forever(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do `work` until it ends by itself or the caller is cancelled. Pauses double from one fault to
    the next; what went well for longer than the longest begins with the first again.
    """
    pause = _FIRST_PAUSE
    while True:
        begun = time.monotonic()
        try:
            await work()
            return
        except Exception:
            if time.monotonic() - begun > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            log.exception("failed, and is begun again", extra=logs.fields(what=name, seconds=pause))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
