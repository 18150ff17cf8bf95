"""Memory of a process and all that it started: summed PSS, sampled from outside."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

import psutil


def tree_pss(pid: int) -> int:
    """Proportional set size of a process tree now, in bytes; of those that may be asked."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.rss)
    return total


class PeakSampler:
    """`with PeakSampler(pid) as sampler: …` then `sampler.peak` in bytes."""

    def __init__(self, pid: int, every: float = 0.1) -> None:
        self.peak = 0
        self._pid, self._every = pid, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakSampler:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, tree_pss(self._pid))
            if self._done.wait(self._every):
                return
