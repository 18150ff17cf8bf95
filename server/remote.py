"""One upscale by a remote provider: what is decided before it, and the run with all its attempts.

Nothing here waits for the device: pictures are made ready, measured and written anew by the pixel
pool. A picture goes nowhere but to the routes of a decision, and each paid call is in the request's
record before it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from upscale import __version__, logs
from upscale.errors import (
    InvalidRequest,
    ModelDisabled,
    QueueFull,
    RecordsFault,
    TooLarge,
    UnreadableImage,
)
from upscale.imaging.exchange import BadResult, Return, Returned, Sendable
from upscale.imaging.limits import check_output
from upscale.imaging.pool import PixelPool
from upscale.imaging.probe import Probe
from upscale.models.catalogue import Catalogue, CatalogueModel, RemoteRoute
from upscale.models.quote import Component
from upscale.providers.registry import Providers
from upscale.providers.routes import Candidate, Skipped, configured, none_left
from upscale.providers.task import (
    RemoteJob,
    RemoteResult,
    RemoteTask,
    byte_cap,
    enlarged,
    misses,
    nth,
)
from upscale.server.replies import Executed, metadata
from upscale.settings import Settings

log = logs.get("server")

# Where a model decides the size of its result: more than any known one makes of a side.
_MOST_TIMES = 8
_RETRY_AFTER = 10

Keep = Callable[[dict[str, Any], bool], Awaitable[None]]
"""Writes fields of the record; True: before a paid call is made, which must not be lost."""


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
    """

    wish: RemoteWish
    source: Path
    probe: Probe
    sendable: Sendable
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    prices: Mapping[tuple[str, str], Price]
    expected_seconds: float | None

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
        return self.prices.get(_name(self.route))

    @property
    def most_micros(self) -> int:
        """What any of the routes may cost, as far as it is known: to be put aside."""
        return max((price.micros for price in self.prices.values()), default=0)

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the result; None where the model decides."""
        return _size(self.wish, self.probe)

    @property
    def most_bytes(self) -> int:
        """What the run may write: results as they come, and as they are written anew."""
        return 2 * self.wish.n * _cap(self.wish, self.probe)

    @property
    def asked(self) -> tuple[str, ...]:
        """Hosts that have the picture already, since they want it for a quote."""
        trails = (each.task.trail.sent_to for each in self.candidates)
        return tuple(dict.fromkeys(host for hosts in trails for host in hosts))

    @property
    def asked_bytes(self) -> int:
        """What they got."""
        tasks = (each.task for each in self.candidates if each.task.trail.sent_to)
        return sum(_bytes(task, self.sendable) for task in tasks)

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
                    "total_cost_micros": _micros(self.prices.get(_name(each.route))),
                }
                for each in self.candidates
            ],
            "skipped": [each.to_json() for each in self.skipped],
            "sent": _sent(self.candidates[0].task, self.sendable),
            "expected_seconds": self.expected_seconds,
        }


@dataclass(frozen=True)
class RemoteImage:
    """A result, written as the caller wants it; what the provider said of it."""

    path: Path
    returned: Returned
    result: RemoteResult
    candidate: Candidate


class Remote:
    """The remote providers of one server. Belongs to the event loop."""

    def __init__(
        self,
        settings: Settings,
        pool: PixelPool,
        catalogue: Catalogue,
        providers: Providers | None = None,
    ) -> None:
        self.settings, self._pool, self._catalogue = settings, pool, catalogue
        self.providers = providers or Providers(settings)
        self._at_work = 0

    async def aclose(self) -> None:
        """Close every connection."""
        await self.providers.aclose()

    async def refresh_prices_forever(self) -> None:
        """Fetch the prices that providers publish, now and daily, until cancelled."""
        while True:
            await self.providers.refresh_prices()
            await asyncio.sleep(86_400)

    def usable(self, model: CatalogueModel) -> list[RemoteRoute]:
        """The routes of the model that can be used, in the order in which they are tried."""
        return configured(model, self.settings, self.providers.health)[0]

    def check(self, model: CatalogueModel, provider: str | None, not_here: str) -> None:
        """Raise what stands against any route of the model, before its picture is looked at;
        `not_here` says why it does not run on this machine.
        """
        good, skipped = configured(model, self.settings, self.providers.health, provider)
        if good:
            return
        if provider is not None and not skipped:
            raise ModelDisabled(f"'{provider}' has no route for '{model.id}'. {not_here}")
        if provider is not None and all(each.key for each in skipped):
            raise none_left(model, skipped)
        whys = dict.fromkeys(s.reason.partition(": ")[2] or s.reason for s in skipped if not s.key)
        raise ModelDisabled(not_here + (f" Remote: {'; '.join(whys)}." if whys else ""))

    async def decide(
        self, wish: RemoteWish, source: Path, probe: Probe, folder: Path
    ) -> RemotePlan:
        """Make the picture ready, find the routes and what they cost. Nothing is sent, but what a
        provider's own estimate needs.

        Raises TooLarge, InvalidRequest, ModelDisabled, and what preparing raises.
        """
        model = self._catalogue.model(wish.model)
        assert model is not None
        size = _size(wish, probe)
        if size is not None:
            _check_limits(wish.output_format, size, self.settings)
        sendable = await self._pool.prepare(source, probe, folder)
        found = [
            self.providers.survey(
                model,
                self._task(wish, probe, sendable, model.routes[0], folder, mime),
                provider=wish.provider,
                allow_resample=wish.allow_resample,
            )
            for mime in _kinds(sendable)
        ]
        # In the order of the first survey that has the route: a JPEG where the PNG is too large.
        chosen: dict[tuple[str, str], Candidate] = {}
        for each in found[0].candidates if len(found) == 1 else _in_order(found):
            chosen.setdefault(_name(each.route), each)
        candidates = tuple(chosen.values())
        skipped = tuple(s for s in found[-1].skipped if _name(s.route) not in chosen)
        if not candidates:
            raise none_left(model, skipped)
        priced = await self._priced(wish, candidates)
        if wish.priced:
            kept = tuple(c for c in candidates if _name(c.route) in priced)
            if not kept:
                raise InvalidRequest(
                    f"Nobody publishes what '{wish.model}' costs by "
                    f"{', '.join(c.route.provider.name for c in candidates)}: a key with a "
                    "spending limit cannot use it.",
                    field="model",
                )
            candidates = kept
        seconds = self.providers.prices.seconds.get(candidates[0].route.endpoint)
        expected = None if seconds is None else round(seconds * wish.n, 2)
        return RemotePlan(wish, source, probe, sendable, candidates, skipped, priced, expected)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile one more request waits for providers. Raises QueueFull."""
        limit = self.settings.provider_limit
        if self._at_work >= limit:
            raise QueueFull(
                f"{self._at_work} requests wait for remote providers, as many as may. "
                "Try again later.",
                retry_after=_RETRY_AFTER,
            )
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def run(
        self,
        request_id: str,
        plan: RemotePlan,
        folder: Path,
        *,
        seconds: float,
        keep: Keep,
        progress: Callable[[float | None, str], None],
        leaves: Callable[[], bool] = lambda: False,
    ) -> RemoteRun:
        """A run of `plan`, to be begun; it has `seconds`, and its files lie in `folder`. `leaves`:
        see `RemoteTask`.
        """
        deadline = self.providers.clock.now() + seconds
        ours = RemoteRun(self.providers, self._pool, self.settings, plan, folder, keep)
        tasks = tuple(
            replace(
                each,
                task=replace(
                    each.task,
                    request_id=request_id,
                    deadline=deadline,
                    target=folder / "came",
                    progress=progress,
                    note=ours.note,
                    leaves=leaves,
                ),
            )
            for each in plan.candidates
        )
        ours.candidates = tasks
        return ours

    def _task(
        self,
        wish: RemoteWish,
        probe: Probe,
        sendable: Sendable,
        route: RemoteRoute,
        folder: Path,
        mime: str,
    ) -> RemoteTask:
        return RemoteTask(
            request_id="",
            model=wish.model,
            route=route,
            file=Path(sendable.png if mime == "image/png" else sendable.jpeg or sendable.png),
            mime=mime,
            width=sendable.width,
            height=sendable.height,
            target=folder / "came",
            max_bytes=_cap(wish, probe),
            deadline=float("inf"),
            factor=wish.factor,
            fields=wish.fields,
            n=wish.n,
        )

    async def _priced(
        self, wish: RemoteWish, candidates: tuple[Candidate, ...]
    ) -> dict[tuple[str, str], Price]:
        """Prices as far as they are known. A provider is asked for its own only where the first
        route has none: some want the picture for it.
        """
        prices: dict[tuple[str, str], Price] = {}
        for index, each in enumerate(candidates):
            quote = self.providers.quote(each.task)
            if quote is not None:
                prices[_name(each.route)] = Price(
                    quote.quote.micros,
                    quote.quote.components,
                    quote.approximate,
                    quote.source,
                    quote.read,
                )
            elif index == 0 or (wish.priced and not prices):
                micros = await self.providers.estimate(each.task)
                if micros is not None:
                    prices[_name(each.route)] = _told(micros, wish.n, each.route)
        return prices


@dataclass
class RemoteRun:
    """One run, and what is known of it while it goes on and however it ends.

    `attempts` tells each paid call that was tried, `jobs` the last that is known of each result's.
    """

    providers: Providers
    pool: PixelPool
    settings: Settings
    plan: RemotePlan
    folder: Path
    keep: Keep
    candidates: tuple[Candidate, ...] = ()
    attempts: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[int, RemoteJob] = field(default_factory=dict)
    _images: dict[int, tuple[Path, Returned]] = field(default_factory=dict)
    _asked: tuple[Candidate, ...] = ()
    _index: int = 0

    async def results(self, known: Mapping[int, RemoteJob] | None = None) -> list[RemoteImage]:
        """All `n` results, one after the other, so that none is paid for after a failure.

        `known` are paid calls that an earlier process has made for the same request: they are gone
        on with instead of being made again. Raises UpscaleError.
        """
        made: list[RemoteImage] = []
        try:
            for index in range(self.plan.wish.n):
                self._index = index
                candidates = tuple(replace(c, task=nth(c.task, index)) for c in self.candidates)
                self._asked = candidates
                # A process that died may have left some of it.
                candidates[0].task.target.unlink(missing_ok=True)
                job = (known or {}).get(index)
                if job is None or job.billed == "no":
                    served = await self.providers.serve(candidates, self.attempts, self._check)
                else:
                    self.jobs[index] = job
                    served = await self.providers.go_on(candidates, job, self.attempts, self._check)
                path, returned = self._images[index]
                made.append(RemoteImage(path, returned, served.result, served.candidate))
        finally:
            self._settle_attempts()
        return made

    async def note(self, job: RemoteJob) -> None:
        """What an adapter tells of its paid call."""
        self.jobs[self._index] = job
        jobs = [{"index": i, **each.to_json()} for i, each in sorted(self.jobs.items())]
        # Where a paid call is about to be made, its provider gets the picture, whatever follows.
        hosts = [*self._hosts(), *([job.provider] if job.state == "sending" else ())]
        told = {"remote_job": {"jobs": jobs}, "sent_to": ", ".join(dict.fromkeys(hosts)) or None}
        try:
            await self.keep(told, job.state == "sending")
        except RecordsFault:  # logged
            if job.state == "sending":
                raise  # what is not on record is not paid for

    @property
    def cost_micros(self) -> int:
        """What was billed, as far as it is known: as the provider says, else as it was quoted."""
        return sum(self._cost(attempt) for attempt in self.attempts)

    def is_priced(self, images: list[RemoteImage]) -> bool:
        """Whether what it cost is known of every result."""
        return all(
            image.result.cost_micros is not None or _name(image.candidate.route) in self.plan.prices
            for image in images
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the record of the request says of it."""
        sent = [a for a in self.attempts if a.get("sent_to")]
        return {
            "cost_micros": self.cost_micros,
            "sent_to": ", ".join(dict.fromkeys(self._hosts())) or None,
            "sent_bytes": self.plan.asked_bytes + sum(self._bytes_of(attempt) for attempt in sent),
            "remote_attempts": self.attempts,
            "remote_job": None,  # nothing is left of it to be gone on with
        }

    def receipt(self, images: list[RemoteImage]) -> dict[str, Any]:
        """What really happened, for the reply."""
        first = images[0]
        quoted = self.plan.prices.get(_name(first.candidate.route))
        return {
            "provider": first.candidate.route.provider.id,
            "endpoint": first.candidate.route.endpoint,
            "sent": _sent(first.candidate.task, self.plan.sendable),
            "size": {"width": first.returned.width, "height": first.returned.height},
            "output": {
                "format": self.plan.wish.output_format,
                "bytes": first.returned.bytes,
                "resampled": first.candidate.resample,
            },
            "attempts": self.attempts,
            "skipped": [each.to_json() for each in self.plan.skipped],
            "quoted_micros": None if quoted is None else quoted.micros,
            "billed_micros": self.cost_micros,
            "billed_by": "provider"
            if all(image.result.cost_micros is not None for image in images)
            else "quote",
            "seconds": {"remote": round(sum(a.get("seconds", 0.0) for a in self.attempts), 3)},
            "notes": [*self.plan.sendable.notes, *first.returned.notes],
            "versions": {"upscale": __version__},
        }

    async def _check(self, result: RemoteResult, candidate: Candidate) -> str | None:
        """Measure a result and write it anew; what is wrong with it otherwise."""
        wish, probe = self.plan.wish, self.plan.probe
        target = self.folder / f"result-{self._index}"
        target.unlink(missing_ok=True)
        try:
            seen = await self.pool.probe(result.path)
            wrong = misses((seen.width, seen.height), candidate.task.expected)
            if wrong is not None:
                return wrong
            size = _size(wish, probe) if candidate.resample else None
            _check_limits(wish.output_format, size or (seen.width, seen.height), self.settings)
            order = Return(
                source=str(self.plan.source),
                probe=probe,
                result=str(result.path),
                target=str(target),
                format=wish.output_format,
                width=None if size is None else size[0],
                height=None if size is None else size[1],
                quality=wish.quality,
                background=wish.background,
                strip=wish.strip_metadata or self.settings.strip_metadata,
                tile=self.settings.tiff_tile,
                facts=self._provenance(result) if self.settings.provenance else None,
            )
            returned = await self.pool.receive(order, seen.pixels)
        except (UnreadableImage, BadResult) as fault:
            return str(fault).rstrip(".")
        except TooLarge as fault:
            return fault.message.rstrip(".")
        result.path.unlink(missing_ok=True)
        self._images[self._index] = (target, returned)
        return None

    def _provenance(self, result: RemoteResult) -> dict[str, str]:
        return {"Software": f"upscale {__version__}", "Model": result.executed_model}

    def _hosts(self) -> list[str]:
        """Who got the picture so far."""
        told = [*self.plan.asked]
        told += [host for attempt in self.attempts for host in attempt.get("sent_to", ())]
        return told + [host for each in self._asked for host in each.task.trail.sent_to]

    def _settle_attempts(self) -> None:
        """What a call came to that was cut short is known from the notes of its adapter only."""
        last = self.attempts[-1] if self.attempts else {}
        if last.get("billed") != "maybe":
            return
        job = self.jobs.get(self._index)
        if job is None:
            last["billed"] = "no"  # nothing was paid for yet
            return
        last |= {"billed": job.billed, "job": job.id or None}
        if job.cost_micros is not None:
            last["cost_micros"] = job.cost_micros

    def _cost(self, attempt: Mapping[str, Any]) -> int:
        if attempt.get("billed") != "yes":
            return 0
        known = attempt.get("cost_micros")
        if isinstance(known, int):
            return known
        quoted = self.plan.prices.get((attempt["provider"], attempt["endpoint"]))
        return 0 if quoted is None else round(quoted.micros / self.plan.wish.n)

    def _bytes_of(self, attempt: Mapping[str, Any]) -> int:
        name = (attempt["provider"], attempt["endpoint"])
        found = (each.task for each in self.candidates if _name(each.route) == name)
        return sum(_bytes(task, self.plan.sendable) for task in found)


def about(plan: RemotePlan, run: RemoteRun, images: list[RemoteImage]) -> dict[str, Any]:
    """The metadata of a reply."""
    cost = run.cost_micros if run.is_priced(images) else None
    return metadata(plan.wish.model, executed_by(images), cost, run.receipt(images))


def executed_by(images: list[RemoteImage]) -> Executed:
    """The route that served."""
    provider = images[0].candidate.route.provider
    return Executed(images[0].result.executed_model, provider.id, provider.name)


def known_jobs(remote_job: Mapping[str, Any] | None) -> dict[int, RemoteJob]:
    """The paid calls that a record tells of, by the number of their result."""
    jobs = (remote_job or {}).get("jobs", ())
    plain = ({k: v for k, v in job.items() if k != "index"} for job in jobs)
    return {job["index"]: RemoteJob.from_json(data) for job, data in zip(jobs, plain, strict=True)}


def _in_order(surveys: list[Any]) -> list[Candidate]:
    """Candidates of a survey of the PNG and one of the JPEG, which is the smaller file: by JPEG
    where the route takes it, else by PNG, in the order of either.
    """
    png, jpeg = surveys
    by_jpeg = {_name(c.route): c for c in jpeg.candidates}
    order = [*png.candidates, *jpeg.candidates]
    return [by_jpeg.get(_name(c.route), c) for c in order]


def _kinds(sendable: Sendable) -> tuple[str, ...]:
    return ("image/png",) if sendable.jpeg is None else ("image/png", "image/jpeg")


def _check_limits(format: str, size: tuple[int, int], settings: Settings) -> None:
    check_output(
        format,
        *size,
        max_pixels=settings.max_output_pixels,
        max_side=settings.max_output_side,
        max_whole_pixels=settings.max_whole_pixels,
    )


def _size(wish: RemoteWish, probe: Probe) -> tuple[int, int] | None:
    return enlarged(probe.width, probe.height, wish.factor)


def _cap(wish: RemoteWish, probe: Probe) -> int:
    size = _size(wish, probe) or (probe.width * _MOST_TIMES, probe.height * _MOST_TIMES)
    return byte_cap(*size)


def _told(micros: int, n: int, route: RemoteRoute) -> Price:
    each = Component("image", Decimal(n), Decimal(micros) / n / 1_000_000)
    return Price(micros, (each,), False, f"{route.provider.name}'s own estimate", "")


def _sent(task: RemoteTask, sendable: Sendable) -> dict[str, Any]:
    size = {"width": task.width, "height": task.height}
    return {"type": task.mime, **size, "bytes": _bytes(task, sendable)}


def _bytes(task: RemoteTask, sendable: Sendable) -> int:
    return sendable.png_bytes if task.mime == "image/png" else sendable.jpeg_bytes


def _micros(price: Price | None) -> int | None:
    return None if price is None else price.micros


def _name(route: RemoteRoute) -> tuple[str, str]:
    return route.provider.id, route.endpoint


def _executed(route: RemoteRoute) -> str:
    return f"{route.provider.id}/{route.endpoint.lstrip('/')}"


def _text(factor: Decimal | None) -> str | None:
    return None if factor is None else str(factor)
