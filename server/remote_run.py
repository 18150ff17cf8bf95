"""A remote run: every result of a plan, with all attempts and what is known of them, however it
ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upscale import __version__
from upscale.errors import RecordsFault, TooLarge, UnreadableImage, UpscaleError
from upscale.imaging.exchange import BadResult, Return, Returned
from upscale.imaging.pool import PixelPool
from upscale.providers.outcome import Billed
from upscale.providers.registry import Providers
from upscale.providers.routes import Candidate
from upscale.providers.task import RemoteJob, RemoteResult, misses, nth
from upscale.server.limits import check_size
from upscale.server.owed import Owed
from upscale.server.records.rows import Row
from upscale.server.remote_plan import RemotePlan, bytes_of, name_of, sent_of, size_of
from upscale.server.replies import Executed, metadata
from upscale.settings import Settings

Keep = Callable[[dict[str, Any], bool], Awaitable[None]]
"""Writes fields of the record; True: before a paid call is made, which must not be lost."""


@dataclass(frozen=True)
class RemoteImage:
    """A result, written as the caller wants it; what the provider said of it."""

    path: Path
    returned: Returned
    result: RemoteResult
    candidate: Candidate


@dataclass(frozen=True)
class Earlier:
    """What a record tells of an earlier process: its paid calls, and who got how much."""

    owed: Owed = field(default_factory=Owed)
    hosts: tuple[str, ...] = ()
    sent_bytes: int = 0

    @classmethod
    def of(cls, row: Row) -> Earlier:
        """As the row of a request has it."""
        hosts = tuple(filter(None, (row.sent_to or "").split(", ")))
        return cls(Owed.from_json(row.remote_job), hosts, row.sent_bytes)


@dataclass
class RemoteRun:
    """One run, and what is known of it while it goes on and however it ends.

    `attempts` tells each paid call that was tried, `jobs` the last that is known of each result's,
    `quoted` what each of these was to cost. `earlier` is what an earlier process has recorded.
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
    quoted: dict[int, int] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=Earlier)
    _images: dict[int, tuple[Path, Returned]] = field(default_factory=dict)
    _asked: tuple[Candidate, ...] = ()
    _index: int = 0

    async def results(self) -> list[RemoteImage]:
        """All `n` results, one after the other, so that none is paid for after a failure.

        Paid calls that an earlier process has made for the same request are gone on with instead of
        being made again. Raises UpscaleError.
        """
        self.quoted |= self.earlier.owed.quoted
        self.jobs |= self.earlier.owed.jobs
        made: list[RemoteImage] = []
        try:
            for index in range(self.plan.wish.n):
                self._index = index
                candidates = tuple(replace(c, task=nth(c.task, index)) for c in self.candidates)
                self._asked = candidates
                # A process that died may have left some of it.
                candidates[0].task.target.unlink(missing_ok=True)
                job = self.earlier.owed.jobs.get(index)
                if job is None or job.billed == "no":
                    served = await self.providers.serve(candidates, self.attempts, self._check)
                else:
                    served = await self.providers.go_on(candidates, job, self.attempts, self._check)
                path, returned = self._images[index]
                made.append(RemoteImage(path, returned, served.result, served.candidate))
        finally:
            self._settle_attempts()
        return made

    async def note(self, job: RemoteJob) -> None:
        """What an adapter tells of its paid call."""
        self.jobs[self._index] = job
        for each in self._asked:
            if each.route.provider.id == job.provider:
                self.quoted[self._index] = self._quote(name_of(each.route))
        sending = job.state == "sending"
        hosts = self._hosts()
        if sending:  # its provider gets the picture, whatever follows
            hosts.append(self.providers.host_of(job.provider))
        size = self._sent_bytes()
        told = {"remote_job": self._jobs(), "sent_to": _listed(hosts), "sent_bytes": size}
        if sending:
            told["idempotency_kept"] = True  # until it is known that it cost nothing
        try:
            await self.keep(told, sending)
        except UpscaleError as fault:
            if sending:  # what is not on record is not paid for
                self.jobs[self._index] = job.now("unsent", billed="no")
            if sending or not isinstance(fault, RecordsFault):  # which is logged
                raise

    @property
    def cost_micros(self) -> int:
        """What was billed, as far as it is known: as the provider says, else as it was quoted."""
        return self.earlier.owed.spent_micros + sum(map(self._cost, self.attempts))

    def is_priced(self, images: list[RemoteImage]) -> bool:
        """Whether what it cost is known of every result."""
        return all(
            image.result.cost_micros is not None
            or name_of(image.candidate.route) in self.plan.prices
            for image in images
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the record of the request says of it."""
        open_calls = any(
            job.billed == "maybe" and self.providers.can_ask(job) for job in self.jobs.values()
        )
        return {
            "cost_micros": self.cost_micros,
            "sent_to": _listed(self._hosts()),
            "sent_bytes": self._sent_bytes(),
            "remote_attempts": self.attempts,
            "idempotency_kept": self._is_paid,
            # What may still be told of a call is asked for later: see `unsettled`.
            "remote_job": self._jobs() if open_calls else None,
        }

    def receipt(self, images: list[RemoteImage]) -> dict[str, Any]:
        """What really happened, for the reply."""
        first = images[0]
        quoted = self.plan.prices.get(name_of(first.candidate.route))
        return {
            "provider": first.candidate.route.provider.id,
            "endpoint": first.candidate.route.endpoint,
            "sent": sent_of(first.candidate.task, self.plan.sendable),
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
            size = size_of(wish, probe) if candidate.resample else None
            check_size(wish.output_format, size or (seen.width, seen.height), self.settings)
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
        told = [*self.earlier.hosts, *(host for host, _ in self.plan.asked)]
        told += [host for attempt in self.attempts for host in attempt.get("sent_to", ())]
        return told + [host for each in self._asked for host in each.task.trail.sent_to]

    def _sent_bytes(self) -> int:
        # What is under way is taken as sent, but for what an earlier process has sent already.
        going = () if self._index in self.earlier.owed.jobs else (True,)
        sent = [attempt for attempt in self.attempts if attempt.get("sent_to", going)]
        size = self.earlier.sent_bytes + sum(size for _, size in self.plan.asked)
        return size + sum(self._bytes_of(attempt) for attempt in sent)

    def _jobs(self) -> dict[str, Any]:
        """As a record has them, with what was booked besides by calls that are settled."""
        named = {(job.provider, job.id) for job in self.jobs.values()}
        others = (a for a in self.attempts if (a["provider"], a.get("job") or "") not in named)
        spent = self.earlier.owed.spent_micros + sum(map(self._cost, others))
        return Owed(self.jobs, self.quoted, spent).to_json()

    @property
    def _is_paid(self) -> bool:
        """Whether it cost something, or may have: then a repeat may cost it again."""
        calls = [attempt.get("billed", "maybe") for attempt in self.attempts]
        return any(billed != "no" for billed in (*calls, *(j.billed for j in self.jobs.values())))

    def _settle_attempts(self) -> None:
        """What a call came to that was cut short is known from the notes of its adapter only."""
        last: dict[str, Any] = self.attempts[-1] if self.attempts else {"billed": "no"}
        if last.get("billed", "maybe") != "maybe":
            return
        job = self.jobs.get(self._index)
        if job is None:
            last["billed"] = "no"  # nothing was paid for yet
            return
        known: dict[str, Any] = {"billed": job.billed, "job": job.id or None}
        last |= known
        if job.cost_micros is not None:
            last["cost_micros"] = job.cost_micros

    def _cost(self, attempt: Mapping[str, Any]) -> int:
        """What is booked for an attempt."""
        return booked(
            self.providers,
            attempt["provider"],
            attempt.get("billed", "no"),  # absent: it is under way
            attempt.get("cost_micros"),
            self._quote((attempt["provider"], attempt["endpoint"])),
        )

    def _quote(self, name: tuple[str, str]) -> int:
        """Of one result by a route; 0 where it is not known."""
        price = self.plan.prices.get(name)
        if price is None:
            return self.earlier.owed.quoted.get(self._index, 0)
        return round(price.micros / self.plan.wish.n)

    def _bytes_of(self, attempt: Mapping[str, Any]) -> int:
        name = (attempt["provider"], attempt["endpoint"])
        found = (each.task for each in self.candidates if name_of(each.route) == name)
        return sum(bytes_of(task, self.plan.sendable) for task in found)


def booked(
    providers: Providers, provider: str, billed: Billed, known: int | None, quoted: int
) -> int:
    """What is booked for a paid call: as its provider says, else as it was quoted; that also where
    one that cannot be asked may have billed it. One that can be asked is, later.
    """
    if billed == "no" or (billed == "maybe" and providers.keeps_jobs(provider)):
        return 0
    return quoted if known is None else known


def about(plan: RemotePlan, run: RemoteRun, images: list[RemoteImage]) -> dict[str, Any]:
    """The metadata of a reply."""
    cost = run.cost_micros if run.is_priced(images) else None
    return metadata(plan.wish.model, executed_by(images), cost, run.receipt(images))


def executed_by(images: list[RemoteImage]) -> Executed:
    """The route that served."""
    provider = images[0].candidate.route.provider
    return Executed(images[0].result.executed_model, provider.id, provider.name)


def told_at_the_end(run: RemoteRun, images: list[RemoteImage]) -> dict[str, Any]:
    """What the record of a request that went well says of it."""
    executed = executed_by(images)
    return {"executed_model": executed.model, "provider": executed.provider, **run.facts}


def told_of(sent: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """Hosts that got the picture for a quote, and its bytes, as a record has them."""
    told = list(sent)
    hosts = _listed(host for host, _ in told)
    return {"sent_to": hosts, "sent_bytes": sum(size for _, size in told)} if told else {}


def _listed(hosts: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(hosts)) or None
