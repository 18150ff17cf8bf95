"""Topaz Labs: asynchronous enhancement. The name of the file is the request's, so that a lost reply
can be looked up; estimates are exact and free.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from upscale.providers import mapping, numbers
from upscale.providers.body import form_body, json_body
from upscale.providers.download import download
from upscale.providers.outcome import Billed, Failure, Kind
from upscale.providers.queued import QueueAdapter, Seen
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import Reply

HOST = "api.topazlabs.com"
_ROOT = "/image/v1"
_DONE = ("Completed", "Failed", "Cancelled")
_SHORTEST, _LONGEST = 2.0, 10.0
_NOT_READY = 5
_PAGE = 50


class Topaz(QueueAdapter):
    """Routes of Topaz Labs. `price` of a credit in USD; None: what jobs cost is not known."""

    provider: ClassVar[str] = "topaz"
    name: ClassVar[str] = "Topaz Labs"

    def __init__(self, transport: Any, price: Decimal | None = None) -> None:
        super().__init__(transport)
        self._price = price
        self._eta: dict[str, float] = {}

    async def estimate(self, task: RemoteTask) -> int | None:
        """The credits that it would take, at the operator's price."""
        if self._price is None or task.size is None:
            return None
        sent = mapping.inputs(task)
        wish = {
            "input_width": task.width,
            "input_height": task.height,
            "output_width": task.size[0],
            "output_height": task.size[1],
            "category": "Enhance",
            "model": sent.get("model", "Standard V2"),
        }
        generative = "-gen" in mapping.endpoint(task)
        path = _ROOT + ("/estimate-gen" if generative else "/estimate")
        reply = await self.transport.free("POST", self.site.url(HOST, path), body=json_body(wish))
        if not reply.good:
            raise self.unready(reply)
        return self.micros(_credits(reply.json()), self._price)

    async def submit(self, task: RemoteTask) -> tuple[RemoteJob, Reply]:
        """One form: settings, then the picture."""
        job = self.job_of(task, mark=task.name)
        body = form_body(mapping.inputs(task), "image", task.file, task.name, task.mime)
        reply = await self.create(task, self.site.url(HOST, _ROOT + job.endpoint), body, job)
        return job, reply

    def job_id(self, reply: Reply) -> str:
        """`process_id`, which the headers repeat."""
        said = reply.json().get("process_id") or reply.headers.get("x-process-id")
        return str(said) if said and str(said).replace("-", "").isalnum() else ""

    def opened(self, job: RemoteJob, reply: Reply) -> RemoteJob:
        """With its id, and when it should be done."""
        identity = self.job_id(reply)
        eta = reply.json().get("eta") or reply.headers.get("x-eta")
        at = numbers.moment(eta)
        if at is not None:
            self._eta[identity] = at
        return job.now("running", id=identity)

    def first_wait(self, job: RemoteJob) -> float | None:
        """A third of the time that it should take."""
        eta = self._eta.pop(job.id, None)
        return None if eta is None else min(600.0, max(0.5, (eta - self.clock.wall()) / 3))

    async def poll(self, job: RemoteJob) -> Seen | None:
        """GET the status."""
        url = self.site.url(HOST, f"{_ROOT}/status/{quote(job.id, safe='')}")
        said = await self.status(url)
        if said is None:
            return None
        status, data = said
        progress: Any = data.get("progress")
        known = isinstance(progress, int | float) and 0 <= progress <= 100
        state = {"Pending": "queued", "Processing": "running"}.get(status, status.lower()[:40])
        return Seen(
            status in _DONE,
            state,
            fraction=float(progress) / 100 if known else None,
            wait=self._pause(data.get("eta")),
            data=data,
        )

    async def collect(self, task: RemoteTask, job: RemoteJob, seen: Seen) -> RemoteResult:
        """The link, then the file; then Topaz forgets the job."""
        credits = _credits(seen.data)
        cost = self.micros(credits, self._price)
        if seen.data.get("status") != "Completed":
            free = credits == 0
            raise Failure(
                Kind.RUN_FAILED,
                f"the run ended as {str(seen.data.get('status'))[:40]}.",
                job=job.id,
                billed="no" if free else "maybe",
                cost_micros=0 if free else cost,
            )
        try:
            link = await self._link(job)
            file = await download(self.transport, link, task.target, max_bytes=task.max_bytes)
        except Failure as failure:
            failure.kind, failure.billed, failure.cost_micros = Kind.BAD_RESULT, "yes", cost
            raise
        with contextlib.suppress(Failure):
            url = self.site.url(HOST, f"{_ROOT}/status/{quote(job.id, safe='')}")
            await self.transport.free("DELETE", url, tries=2)
        return RemoteResult(
            path=task.target,
            size=file.size,
            mime=file.mime,
            job=job.now("done", billed="yes", cost_micros=cost),
            cost_micros=cost,
            units=credits,
            unit="credit",
            facts={"host": file.host},
        )

    async def bill(self, job: RemoteJob, seen: Seen) -> tuple[Billed, int | None]:
        """Its credits, consumed or not."""
        credits = _credits(seen.data)
        if seen.data.get("status") == "Completed":
            return "yes", self.micros(credits, self._price)
        return ("no", 0) if credits == 0 else ("maybe", None)

    async def cancel(self, job: RemoteJob) -> bool:
        """DELETE, meant to prevent costs."""
        url = self.site.url(HOST, f"{_ROOT}/cancel/{quote(job.id, safe='')}")
        return (await self.transport.free("DELETE", url, tries=2)).good

    async def find(self, job: RemoteJob) -> RemoteJob | None:
        """The job whose file has the request's name."""
        url = self.site.url(HOST, f"{_ROOT}/status?paginated=true&limit={_PAGE}")
        reply = await self.transport.free("GET", url)
        value = reply.value()
        if not reply.good or not isinstance(value, list | dict):
            raise Failure(Kind.BROKEN, f"it did not list its jobs (HTTP {reply.status}).")
        rows = [value] if isinstance(value, list) else list(value.values())
        listed = [item for row in rows if isinstance(row, list) for item in row]
        for item in listed:
            if not isinstance(item, dict) or item.get("filename") != job.mark or not job.mark:
                continue
            identity = item.get("process_id")
            if not isinstance(identity, str) or not identity:
                raise Failure(Kind.BROKEN, "its list has the job without its id.")
            return job.now("running", id=identity)
        if len(listed) >= _PAGE:  # how to ask for more is not documented
            raise Failure(Kind.BROKEN, "its list of jobs has more than it shows.")
        return None

    async def _link(self, job: RemoteJob) -> object:
        url = self.site.url(HOST, f"{_ROOT}/download/{quote(job.id, safe='')}")
        for attempt in range(_NOT_READY):
            reply = await self.transport.free("GET", url)
            if reply.status != 409:
                break
            await self.clock.sleep(self.clock.spread(float(attempt + 1)))
        if not reply.good:
            raise Failure(Kind.BAD_RESULT, f"it gave no link (HTTP {reply.status}).")
        return reply.json().get("download_url")

    def _pause(self, eta: object) -> float:
        at = numbers.moment(eta)
        if at is None:
            return _SHORTEST
        left = at - self.clock.wall()
        return min(_LONGEST, max(_SHORTEST, left / 3))


def _credits(data: Mapping[str, Any]) -> Decimal | None:
    return numbers.amount(data.get("credits"))
