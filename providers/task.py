"""What an adapter is given, what it notes on the way, what it gives back. Plain data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, Literal

from upscale.models.catalogue import RemoteRoute
from upscale.providers.outcome import Billed

JobState = Literal["sending", "running", "done", "failed", "cancelled", "unsent"]

SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class RemoteJob:
    """A paid call, from before it is made: kept by the server, so that a crash can be resolved.

    `id` is '' while it is not known; `mark` is what the job can be found by then (the URL of the
    uploaded input, or the name of its file); `urls` are the provider's, without secrets;
    `created` in unix seconds. `cost_micros` in millionths of a dollar, where it is known.
    """

    provider: str
    endpoint: str
    id: str = ""
    mark: str = ""
    created: float = 0.0
    state: JobState = "sending"
    billed: Billed = "maybe"
    cost_micros: int | None = None
    urls: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for a record."""
        return {**vars(self), "urls": dict(self.urls)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RemoteJob:
        """The job that `to_json` described."""
        return RemoteJob(**data)

    def now(self, state: JobState, **changes: Any) -> RemoteJob:
        """The same job, further on."""
        return replace(self, state=state, **changes)


async def _unnoted(job: RemoteJob) -> None:
    """For those who keep no record."""


def _stays() -> bool:
    """For those who wait to the end."""
    return False


def _unseen(fraction: float | None, state: str) -> None:
    """For those whom progress does not concern."""


@dataclass
class Trail:
    """What a run did, for the log and the record: hosts that got the picture. `open`: a paid call
    may have arrived and was not answered.
    """

    sent_to: list[str] = field(default_factory=list)
    open: bool = False

    def sent(self, host: str) -> None:
        """The picture went to `host`."""
        if host not in self.sent_to:
            self.sent_to.append(host)

    def opened(self) -> None:
        """A paid call was handed over whole."""
        self.open = True


@dataclass(frozen=True)
class RemoteTask:
    """One picture to be upscaled by a provider, once.

    `file` is ready to be sent (one image, sRGB, no metadata), `width` x `height` pixels.
    `factor` None: the model decides. `fields` are the caller's own, by the model's names.
    `target` is a new file for the result, of at most `max_bytes`. `deadline` is on the clock of the
    adapter. `note` is awaited before a paid call, when its id is known and when it ends; `progress`
    gets a fraction, where the provider tells one, and a state in words. `leaves`, asked where the
    run is cancelled: whether somebody comes back for the job, which is not stopped then.
    """

    request_id: str
    model: str
    route: RemoteRoute
    file: Path
    mime: str
    width: int
    height: int
    target: Path
    max_bytes: int
    deadline: float
    factor: Decimal | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    n: int = 1
    index: int = 0
    note: Callable[[RemoteJob], Awaitable[None]] = _unnoted
    progress: Callable[[float | None, str], None] = _unseen
    leaves: Callable[[], bool] = _stays
    trail: Trail = field(default_factory=Trail)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the result; None where the model decides."""
        return enlarged(self.width, self.height, self.factor)

    @property
    def expected(self) -> tuple[int, int] | None:
        """The size that its route promises; None where the model decides."""
        return None if self.route.scale.kind == "fixed" else self.size

    @property
    def name(self) -> str:
        """A file name that no other paid call has."""
        kind = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
        number = f"-{self.index}" if self.index else ""
        return f"{self.request_id}{number}.{kind.get(self.mime, 'bin')}"


@dataclass(frozen=True)
class RemoteResult:
    """A file that a provider made, not yet decoded. `cost_micros` is what the provider reports for
    this very request, None where it does not; `units` and `unit` are what it counted.
    """

    path: Path
    size: int
    mime: str
    job: RemoteJob
    cost_micros: int | None = None
    units: Decimal | None = None
    unit: str = ""
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def executed_model(self) -> str:
        """As replies call it."""
        return f"{self.job.provider}/{self.job.endpoint.lstrip('/')}"


def enlarged(width: int, height: int, factor: Decimal | None) -> tuple[int, int] | None:
    """floor(side x factor + 1/2), exactly."""
    if factor is None:
        return None
    half = Decimal("0.5")
    w, h = (int((side * factor + half).to_integral_value(ROUND_FLOOR)) for side in (width, height))
    return w, h


def nth(task: RemoteTask, index: int) -> RemoteTask:
    """The task of the result `index` of several: another file, another seed where one was given."""
    if index == 0:
        return replace(task, trail=Trail())
    fields = dict(task.fields)
    if str(fields.get("seed", "")).strip().isdecimal():
        fields["seed"] = int(str(fields["seed"])) + index
    target = task.target.with_name(f"{task.target.stem}-{index}{task.target.suffix}")
    return replace(task, index=index, fields=fields, target=target, trail=Trail())


def misses(size: tuple[int, int], expected: tuple[int, int] | None) -> str | None:
    """What is wrong with the size of a result: a pixel more or less per side is nothing."""
    if expected is None or all(abs(a - b) <= 1 for a, b in zip(size, expected, strict=True)):
        return None
    return f"its size is {size[0]}x{size[1]}, not {expected[0]}x{expected[1]}"


def byte_cap(width: int, height: int) -> int:
    """The most bytes that a result of that size may have."""
    return 4 * width * height + SPARE_BYTES
