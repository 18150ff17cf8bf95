"""What a file's header says, without decoding it. See `imaging.probing` for how it is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Probe:
    """A picture as its header describes it.

    `width`, `height` are in pixels after the EXIF orientation is applied; `orientation` is the tag
    (1 to 8, 1 where absent). `channels` counts colour channels: 1 grey, 3 RGB (a palette is RGB).
    `alpha` says that the file can be transparent; decoding may find it opaque. `depth` is bits a
    channel, 8 or 16, of what decoding will give.
    """

    format: str
    width: int
    height: int
    channels: int
    alpha: bool
    depth: int
    orientation: int
    frames: int
    icc: bool
    bytes: int

    @property
    def pixels(self) -> int:
        """width x height."""
        return self.width * self.height

    def to_json(self) -> dict[str, Any]:
        """Plain data for a pipe or a receipt."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Probe:
        """The inverse of `to_json`."""
        return cls(**data)
