"""What goes out to somebody else's upscaler and what comes back, as plain data for a pipe. The work
on it is `exchanging`'s.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from upscale.imaging.probe import Probe


@dataclass(frozen=True)
class Sendable:
    """A picture made ready: the PNG, and the JPEG where there is one, with their sizes in bytes."""

    width: int
    height: int
    png: str
    png_bytes: int
    jpeg: str | None
    jpeg_bytes: int
    notes: tuple[str, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sendable:
        """The inverse of `asdict`."""
        return cls(**{**data, "notes": tuple(data["notes"])})


@dataclass(frozen=True)
class Return:
    """What to make of the file `result`: the picture of `source`, larger, as a new file `target`.

    `width`, `height` None: as it came. Of the other fields see `OutputSpec`; `facts` are written
    into the file where they are given.
    """

    source: str
    probe: Probe
    result: str
    target: str
    format: str
    width: int | None = None
    height: int | None = None
    quality: int | None = None
    background: str = "#ffffff"
    strip: bool = False
    tile: int = 0
    facts: dict[str, str] | None = None


@dataclass(frozen=True)
class Returned:
    """The file as written."""

    width: int
    height: int
    bytes: int
    notes: tuple[str, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Returned:
        """The inverse of `asdict`."""
        return cls(**{**data, "notes": tuple(data["notes"])})


class BadResult(Exception):
    """What came back is no picture that can be used; the text says why."""


def return_to_json(order: Return) -> dict[str, Any]:
    """Plain data for a pipe."""
    return asdict(order)


def return_from_json(data: dict[str, Any]) -> Return:
    """The inverse of `return_to_json`."""
    return Return(**{**data, "probe": Probe.from_json(data["probe"])})
