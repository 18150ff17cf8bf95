"""What every storage of results offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """A result that lies there: `size` in bytes, `made` in Unix seconds."""

    name: str
    size: int
    made: float


class Reader(Protocol):
    """Bytes of a result, in order."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""

    def close(self) -> None:
        """Give back what is held."""


class Storage(Protocol):
    """A place for results; names are those of media links."""

    def open(self) -> None:
        """Make the place ready. Raises OutputFault."""

    def keep(self, result: Path, name: str, mime: str) -> None:
        """Take the file over. It is there whole, or not at all. Raises OutputFault."""

    def find(self, name: str) -> Stored | None:
        """What lies there under that name."""

    def entries(self) -> list[Stored]:
        """All that lies there, in no order."""

    def read(self, name: str, start: int, stop: int) -> Reader | None:
        """Bytes `start` up to `stop` (excluded); None where it is gone meanwhile."""

    def copy(self, name: str, target: Path) -> bool:
        """Put it into the new file `target`, which outlives it; False where it is gone."""

    def remove(self, name: str) -> None:
        """Remove it, if it is there."""

    def tidy(self, older_than: float) -> None:
        """Remove what a crash left half done, begun more than `older_than` seconds ago."""
