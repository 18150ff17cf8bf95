"""How a Job's progress is shown: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from upscale.cli.console import complain

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from upscale.engine.receipt import Progress

# Seconds between plain lines, so that logs of long runs stay short.
_PLAIN_EVERY = 10.0

_LONGEST_LABEL = 32


class Show(Protocol):
    """Shows the progress of one file after the other."""

    def start(self, label: str) -> None:
        """A file begins."""

    def update(self, progress: Progress) -> None:
        """Where its Job stands."""

    def stop(self) -> None:
        """The file is done, or given up."""


@contextmanager
def shown() -> Iterator[Show]:
    """A live bar where standard error is a terminal, plain lines otherwise."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    with _bar() as bar:
        yield _Live(bar)


def rate(megapixels: float, seconds: float) -> str:
    """Output megapixels a second."""
    return f"{megapixels / max(seconds, 1e-3):.1f} MP/s"


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else "..." + label[3 - _LONGEST_LABEL :]


def _bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.fields[label]}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} tiles", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Lines are printed while no bar is shown; they must reach a file or a pipe as they are.
        redirect_stdout=False,
        redirect_stderr=False,
    )


class _Live:
    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1, label="", rate="", visible=False)

    def start(self, label: str) -> None:
        self._bar.reset(self._task, total=1, label=_shortened(label), rate="", visible=True)

    def update(self, progress: Progress) -> None:
        self._bar.update(
            self._task,
            total=max(1, progress.tiles_total),
            completed=progress.tiles_done,
            rate=rate(progress.megapixels, progress.seconds),
        )

    def stop(self) -> None:
        self._bar.update(self._task, visible=False, refresh=True)


class _Plain:
    def __init__(self) -> None:
        self._label = ""
        self._last = 0.0

    def start(self, label: str) -> None:
        self._label, self._last = label, time.monotonic()

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < _PLAIN_EVERY or not progress.tiles_done:
            return
        self._last = now
        done, total = progress.tiles_done, progress.tiles_total
        left = progress.seconds * (total - done) / done
        complain(
            f"{self._label}: {done}/{total} tiles, "
            f"{rate(progress.megapixels, progress.seconds)}, about {left:.0f} s left"
        )

    def stop(self) -> None:
        self._last = 0.0
