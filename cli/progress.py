"""How progress is shown, of a Job or of many pictures at once: a live bar on a terminal, a plain
line now and then elsewhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from upscale.cli.console import complain, printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

    from upscale.engine.receipt import Progress

# Seconds between plain lines, so that logs of long runs stay short.
_PLAIN_EVERY = 10.0

_LONGEST_LABEL = 32


class Show(Protocol):
    """Shows the progress of one file after the other."""

    def start(self, label: str, position: str = "") -> None:
        """A file begins; `position` is its place among all, as `3/20 `."""

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


class Overview(Protocol):
    """Shows how far many pictures are of which several are in work."""

    def update(self, finished: int, in_flight: list[str]) -> None:
        """How many are finished, done or not, and the names of those in work."""

    def aside(self) -> AbstractContextManager[None]:
        """Meanwhile lines can be printed."""


@contextmanager
def overview(total: int) -> Iterator[Overview]:
    """As `shown`, for `total` pictures of which several are in work at once."""
    if not sys.stderr.isatty():
        yield _PlainOverview(total)
        return
    from rich.progress import BarColumn, TextColumn

    with _rich(
        TextColumn("{task.completed:.0f}/{task.total:.0f} pictures", markup=False),
        BarColumn(),
        TextColumn("{task.fields[at_work]}", markup=False),
    ) as bar:
        yield _LiveOverview(bar, total)


def result_line(
    source: Path, target: Path, width: int, height: int, seconds: float, precision: str
) -> str:
    """What is said of a finished picture."""
    speed = rate(width * height / 1e6, seconds)
    how = f"{precision}, " if precision else ""
    return (
        f"{printable(source)} -> {printable(target)}  {width}x{height}, "
        f"{how}{seconds:.1f} s, {speed}"
    )


def rate(megapixels: float, seconds: float) -> str:
    """Output megapixels a second."""
    return f"{megapixels / max(seconds, 1e-3):.1f} MP/s"


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else "..." + label[3 - _LONGEST_LABEL :]


def _bar() -> RichProgress:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    return _rich(
        TextColumn("{task.fields[label]}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} tiles", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )


def _rich(*columns: ProgressColumn) -> RichProgress:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    return RichProgress(
        *columns,
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

    def start(self, label: str, position: str = "") -> None:
        label = position + _shortened(label)
        self._bar.reset(self._task, total=1, label=label, rate="", visible=True)

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

    def start(self, label: str, position: str = "") -> None:
        self._label, self._last = position + label, time.monotonic()

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


class _LiveOverview:
    def __init__(self, bar: RichProgress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total, at_work="")

    def update(self, finished: int, in_flight: list[str]) -> None:
        names = ", ".join(_shortened(name) for name in in_flight[:2])
        more = f" and {len(in_flight) - 2} more" if len(in_flight) > 2 else ""
        self._bar.update(self._task, completed=finished, at_work=names + more)

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


class _PlainOverview:
    def __init__(self, total: int) -> None:
        self._total, self._last = total, time.monotonic()

    def update(self, finished: int, in_flight: list[str]) -> None:
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY:
            self._last = now
            complain(f"{finished}/{self._total} pictures, {len(in_flight)} in work")

    def aside(self) -> AbstractContextManager[None]:
        return nullcontext()
