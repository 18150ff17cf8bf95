"""All that decides the outcome of a run, and the learning rate that follows from it.

Plain numbers; knows nothing of pictures or networks. A checkpoint carries its recipe, and goes on
under the same one only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WARM_UP = 200
"""Steps in which the learning rate rises to its full value; Adam's first estimates are poor."""


@dataclass(frozen=True)
class Recipe:
    """The bundled network's values. Sides in small pixels; exactly one of steps and minutes."""

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    features: int = 48
    convs: int = 8
    batch: int = 8
    side: int = 40
    rate: float = 1e-3
    last_rate: float = 1e-6
    average: float = 0.999
    drawn: int = 20
    averaged_photographs: float = 0.1
    averaged_drawings: float = 0.5
    grey: float = 0.0
    """Share of the crops that lose their colours."""
    taught: float = 0.0
    """Share of the teacher's output in the target of a bicubic pair, where there is a teacher."""
    optimiser: str = "adam"
    """`adam`, or `muon` for the body's convolutions and Adam for the rest."""
    threads: int = 2
    device: str = "cpu"
    start: str | None = None
    """sha256 of the weights that training starts from; None: from fresh ones of the seed."""
    fonts: str | None = None
    """Digest of the fonts in which drawings are written; None: the one that Pillow holds."""
    bfloat16: bool = False
    """Only where the machine has units for it: without (AVX2) a step took 8.6 times as long."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, seconds / (60 * (self.minutes or 1)))

    def rate_at(self, step: int, seconds: float) -> float:
        """Half a cosine from `rate` to `last_rate`, after a linear start."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step, seconds)))
        rate = self.last_rate + (self.rate - self.last_rate) * cosine
        return rate * min(1.0, (step + 1) / WARM_UP)
