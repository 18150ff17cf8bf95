"""Tasks, clocks and records for the tests of providers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from PIL import Image

from upscale.models.catalogue import RemoteRoute, load_catalogue
from upscale.providers.clock import Clock
from upscale.providers.task import RemoteJob, RemoteTask, byte_cap, enlarged
from upscale.settings import Settings

KEYS = {
    "fal": "falid-7777:fal-secret-424242",
    "replicate": "r8_replicate-secret-5555",
    "topaz": "topaz-secret-90909090",
    "recraft": "recraft-secret-31313131",
    "vertex": "ya29.vertex-secret-717171",
    "lumenfall": "lmnfl_gateway-secret-2121",
}


class FastClock:
    """Time that passes at once where somebody sleeps."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def now(self) -> float:
        """Real seconds, and those that were slept."""
        return time.monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        """Skip them; others get their turn."""
        self.skipped += seconds
        await asyncio.sleep(0.001)

    @property
    def clock(self) -> Clock:
        """For a transport."""
        return Clock(self.now, time.time, self.sleep, lambda: 0.5)


@dataclass
class Notes:
    """What a server would have on record."""

    jobs: list[RemoteJob] = field(default_factory=list)
    progress: list[tuple[float | None, str]] = field(default_factory=list)

    async def note(self, job: RemoteJob) -> None:
        """Kept as a record keeps it."""
        self.jobs.append(RemoteJob.from_json(job.to_json()))

    def seen(self, fraction: float | None, state: str) -> None:
        """Progress."""
        self.progress.append((fraction, state))

    @property
    def states(self) -> list[str]:
        """In order."""
        return [job.state for job in self.jobs]

    @property
    def last(self) -> RemoteJob:
        """What is known now."""
        return self.jobs[-1]


def route_of(model: str, provider: str) -> RemoteRoute:
    """A route of the catalogue."""
    found = load_catalogue().model(model)
    assert found is not None
    return next(r for r in found.routes if r.provider.id == provider)


def make_task(
    folder: Path,
    model: str,
    provider: str,
    *,
    factor: object = 2,
    size: tuple[int, int] = (12, 8),
    seconds: float = 600.0,
    clock: FastClock | None = None,
    notes: Notes | None = None,
    index: int = 0,
    **more: Any,
) -> RemoteTask:
    """A task for a small picture."""
    file = folder / f"in-{size[0]}x{size[1]}.png"
    if not file.exists():
        Image.new("RGB", size, (10, 200, 30)).save(file)
    kept = notes or Notes()
    times = None if factor is None else Decimal(str(factor))
    out = enlarged(*size, times) or (size[0] * 4, size[1] * 4)
    values: dict[str, Any] = {
        "request_id": "req_test0001",
        "model": model,
        "route": route_of(model, provider),
        "file": file,
        "mime": "image/png",
        "width": size[0],
        "height": size[1],
        "target": folder / f"out-{index}-{time.monotonic_ns()}.png",
        "max_bytes": byte_cap(*out) - (64 << 20) + (1 << 20),
        "deadline": (clock or FastClock()).now() + seconds,
        "factor": times,
        "note": kept.note,
        "progress": kept.seen,
        "index": index,
    }
    return RemoteTask(**{**values, **more})


def settings_for(**urls: str) -> Settings:
    """Settings with all keys, and base URLs by provider."""
    bases = {f"{'gateway' if k == 'lumenfall' else k}_base_url": v for k, v in urls.items()}
    keys = {f"{'gateway' if k == 'lumenfall' else k}_key": v for k, v in KEYS.items() if k in urls}
    return Settings(**bases, **keys)  # type: ignore[arg-type]
