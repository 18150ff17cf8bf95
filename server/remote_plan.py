"""What is decided before a remote run: the wish, the routes in order, their prices. Plain data, and
pure functions of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from upscale.imaging.exchange import Sendable
from upscale.imaging.probe import Probe
from upscale.models.catalogue import RemoteRoute
from upscale.models.quote import Component
from upscale.providers.routes import Candidate, Skipped
from upscale.providers.task import RemoteTask, byte_cap, enlarged

# Where a model decides the size of its result: more than any known one makes of a side.
_MOST_TIMES = 8


@dataclass(frozen=True)
class RemoteWish:
    """What is asked of a provider besides the picture; plain data.

    `provider` forces one. `factor` None: the model decides. `fields` are the caller's own, by the
    model's names. `priced`: only routes whose price is known.
    """

    model: str
    provider: str | None
    factor: Decimal | None
    fields: Mapping[str, Any]
    n: int
    output_format: str
    quality: int | None
    background: str
    strip_metadata: bool
    allow_resample: bool
    priced: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a record."""
        return {**vars(self), "fields": dict(self.fields), "factor": _text(self.factor)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RemoteWish:
        """The inverse of `to_json`."""
        factor = data["factor"]
        return cls(**{**data, "factor": None if factor is None else Decimal(factor)})


@dataclass(frozen=True)
class Price:
    """What all results of a wish cost by one route, in millionths of a dollar."""

    micros: int
    components: tuple[Component, ...]
    approximate: bool
    source: str
    read: str


@dataclass(frozen=True)
class RemotePlan:
    """All that was decided before anything is sent: the routes in order, and their prices.

    `expected_seconds` is what runs of the first route took of late, None where there were none.
    `asked`: hosts that have the picture already, since they want it for a quote, and its bytes.
    """

    wish: RemoteWish
    source: Path
    probe: Probe
    sendable: Sendable
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    prices: Mapping[tuple[str, str], Price]
    expected_seconds: float | None
    asked: tuple[tuple[str, int], ...] = ()

    @property
    def route(self) -> RemoteRoute:
        """The one that is tried first."""
        return self.candidates[0].route

    @property
    def executed_model(self) -> str:
        """As replies call it."""
        return _executed(self.route)

    @property
    def price(self) -> Price | None:
        """Of the route that is tried first; None where it is not known."""
        return self.prices.get(name_of(self.route))

    @property
    def most_micros(self) -> int:
        """What any of the routes may cost, as far as it is known: to be put aside."""
        return max((price.micros for price in self.prices.values()), default=0)

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the result; None where the model decides."""
        return size_of(self.wish, self.probe)

    @property
    def most_bytes(self) -> int:
        """What the run may write: results as they come, and as they are written anew."""
        return 2 * self.wish.n * cap_of(self.wish, self.probe)

    def shown(self) -> dict[str, Any]:
        """For a dry run."""
        size = self.size
        return {
            "size": None if size is None else f"{size[0]}x{size[1]}",
            "routes": [
                {
                    "provider": each.route.provider.id,
                    "endpoint": each.route.endpoint,
                    "resample": each.resample,
                    "total_cost_micros": _micros(self.prices.get(name_of(each.route))),
                }
                for each in self.candidates
            ],
            "skipped": [each.to_json() for each in self.skipped],
            "sent": sent_of(self.candidates[0].task, self.sendable),
            "expected_seconds": self.expected_seconds,
        }


def name_of(route: RemoteRoute) -> tuple[str, str]:
    """What tells one route from another."""
    return route.provider.id, route.endpoint


def size_of(wish: RemoteWish, probe: Probe) -> tuple[int, int] | None:
    """Of the result; None where the model decides."""
    return enlarged(probe.width, probe.height, wish.factor)


def cap_of(wish: RemoteWish, probe: Probe) -> int:
    """The most bytes that a result may have as it comes."""
    size = size_of(wish, probe) or (probe.width * _MOST_TIMES, probe.height * _MOST_TIMES)
    return byte_cap(*size)


def sent_of(task: RemoteTask, sendable: Sendable) -> dict[str, Any]:
    """The file that goes out, for dry runs and receipts."""
    size = {"width": task.width, "height": task.height}
    return {"type": task.mime, **size, "bytes": bytes_of(task, sendable)}


def bytes_of(task: RemoteTask, sendable: Sendable) -> int:
    """Of the file that goes out."""
    return sendable.png_bytes if task.mime == "image/png" else sendable.jpeg_bytes


def _micros(price: Price | None) -> int | None:
    return None if price is None else price.micros


def _executed(route: RemoteRoute) -> str:
    return f"{route.provider.id}/{route.endpoint.lstrip('/')}"


def _text(factor: Decimal | None) -> str | None:
    return None if factor is None else str(factor)
