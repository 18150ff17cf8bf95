"""What the command prints, and how it ends. Results go to standard output, progress and complaints
to standard error. Prints any file name on any terminal.
"""

from __future__ import annotations

import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from types import FrameType

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def prepare_streams() -> None:
    """Make printing safe: what the terminal's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def printable(name: str | PathLike[str]) -> str:
    """A name as it may be shown: control characters, which a terminal would obey, are escaped."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in fspath(name))


def say(text: str) -> None:
    """A line of results."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A line about what went wrong, or about progress."""
    print(text, file=sys.stderr, flush=True)


class Interrupted(BaseException):
    """A signal asked to stop; `exit_code` is 128 plus its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class Interrupts:
    """Signals that ask to stop. Inside `gently` they are noted, to be asked for; a second one, or
    one that comes at another time, raises Interrupted."""

    def __init__(self) -> None:
        self.number = 0
        self._gentle = False

    def wanted(self) -> bool:
        """Whether a signal came."""
        return self.number != 0

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.number:
            raise Interrupted(self.number)

    @contextmanager
    def gently(self) -> Iterator[None]:
        """While it lasts, the first signal is noted only."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    @contextmanager
    def caught(self) -> Iterator[Interrupts]:
        """Catch interrupts and requests to end while the block runs, unless they are ignored."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP"):
            numbers.append(signal.SIGHUP)
        heeded = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.wanted(), number
        if again or not self._gentle:
            raise Interrupted(number)
