"""How long a write may wait for others: counted from when it was asked for, not from when it was
begun, so that those who queue behind a lock have waited as long as the first and fail with it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from upscale.errors import RecordsFault

_of_thread = threading.local()


@contextlib.contextmanager
def waiting_until(deadline: float) -> Iterator[None]:
    """Within the block this thread's writes wait until `deadline` at most (monotonic seconds)."""
    _of_thread.deadline = deadline
    try:
        yield
    finally:
        del _of_thread.deadline


def seconds_left(most: float) -> float:
    """How long a write may wait now, at most `most`. Raises RecordsFault where its time is over."""
    deadline: float | None = getattr(_of_thread, "deadline", None)
    if deadline is None:
        return most
    left = min(most, deadline - time.monotonic())
    if left <= 0:
        raise too_long()
    return left


def too_long() -> RecordsFault:
    """What a write fails with whose time is over."""
    return RecordsFault("The records are in use for too long. Try again later.")
