"""What really happened in a Job, as plain data: the Receipt. And the progress on the way there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Where a Job stands. `megapixels`: finished output pixels / 1e6, `seconds` since its start.

    `stage` is what begins or goes on: decode, load (the network), upscale.
    """

    stage: str
    tiles_done: int
    tiles_total: int
    megapixels: float
    seconds: float


@dataclass(frozen=True)
class Receipt:
    """What was done with what. Sizes in pixels, times in seconds, memory in bytes.

    `tiles` counts them by what became of them; `seconds` gives the wall time of each stage and the
    total, stages overlap; `memory` stands beside what the Plan expected.
    """

    network: dict[str, Any]
    device: dict[str, Any]
    precision: str
    passes: list[dict[str, Any]]
    tiles: dict[str, int]
    size: dict[str, int]
    output: dict[str, Any]
    seconds: dict[str, float]
    memory: dict[str, int]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)
    attempts: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain data for a reply, a file or a pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Receipt:
        """The inverse of `to_json`."""
        return cls(**data)
