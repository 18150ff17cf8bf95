"""Replicate: predictions. Created without waiting, so that their id is known; the picture is
uploaded first, so that a lost reply can be looked up by the URL that it got.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

from upscale.models.catalogue import RoutePrice
from upscale.providers import mapping, numbers
from upscale.providers.body import form_body, json_body
from upscale.providers.download import download
from upscale.providers.outcome import Billed, Failure, Kind
from upscale.providers.queued import QueueAdapter, Seen, has_input
from upscale.providers.site import bare
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import STALL_SECONDS, Reply

HOST = "api.replicate.com"
_CLOCK_SKEW = 120.0
_DONE = ("succeeded", "failed", "canceled", "aborted")
_RESETS = re.compile(r"resets? in ~?\s*(\d+(?:\.\d+)?)\s*s", re.IGNORECASE)
_VERSION = re.compile(r"[0-9a-f]{64}")
_UNSAFE = re.compile(r"nsfw|safety|content polic|moderat|sensitive", re.IGNORECASE)


class Replicate(QueueAdapter):
    """Routes of Replicate. `versions` pins models, as `owner/name`, to versions;
    `prices` are the catalogue's.
    """

    provider: ClassVar[str] = "replicate"
    name: ClassVar[str] = "Replicate"

    def __init__(
        self,
        transport: Any,
        versions: Mapping[str, str] | None = None,
        prices: Mapping[str, RoutePrice] | None = None,
    ) -> None:
        super().__init__(transport)
        self._pinned, self._prices = dict(versions or {}), dict(prices or {})
        self._latest: dict[str, str] = {}

    async def submit(self, task: RemoteTask) -> tuple[RemoteJob, Reply]:
        """Upload the picture, then create the prediction."""
        endpoint = mapping.endpoint(task)
        async with self.in_time(task, "no"):
            version = await self._version(task, endpoint)
            file, identity = await self._upload(task)
        job = self.job_of(task, mark=bare(file)).now("sending", urls={"file": identity})
        wanted: dict[str, Any] = {"input": {"image": file, **mapping.inputs(task)}}
        path = f"/v1/models/{endpoint}/predictions"
        if version:
            path, wanted = "/v1/predictions", {"version": version, **wanted}
        rest = max(5, math.ceil(task.deadline - self.clock.now()))
        url = self.site.url(HOST, path)
        headers = {"Cancel-After": f"{rest}s"}
        try:
            reply = await self.create(task, url, json_body(wanted), job, headers=headers)
        except Failure as failure:
            if self.settled(failure):  # a job that may be there needs its picture
                await self._forget(job)
            raise
        return job, reply

    def job_id(self, reply: Reply) -> str:
        """`id` of the prediction."""
        said = reply.json().get("id")
        return said if isinstance(said, str) and said.isalnum() else ""

    def opened(self, job: RemoteJob, reply: Reply) -> RemoteJob:
        """With its id; where it is follows from that."""
        return job.now("running", id=self.job_id(reply))

    async def poll(self, job: RemoteJob) -> Seen | None:
        """GET the prediction."""
        said = await self.status(self._url(job))
        if said is None:
            return None
        status, data = said
        states = {"starting": "queued", "processing": "running"}
        return Seen(status in _DONE, states.get(status, status[:40]), data=data)

    async def collect(self, task: RemoteTask, job: RemoteJob, seen: Seen) -> RemoteResult:
        """The file of a prediction that succeeded."""
        try:
            return await self._collect(task, job, seen)
        finally:
            await self._forget(job)

    async def _collect(self, task: RemoteTask, job: RemoteJob, seen: Seen) -> RemoteResult:
        billed, cost = _reckoned(task.route.price, seen.data)
        if seen.data.get("status") != "succeeded":
            raise self._failed(job, seen, billed, cost)
        output = seen.data.get("output")
        url = output[0] if isinstance(output, list) and output else output
        if not isinstance(url, str):
            gone = "its picture was deleted" if seen.data.get("data_removed") else "no picture"
            raise Failure(Kind.BAD_RESULT, f"the result cannot be used: {gone}.", cost_micros=cost)
        try:
            file = await download(
                self.transport, url, task.target, max_bytes=task.max_bytes, with_key=True
            )
        except Failure as failure:
            failure.cost_micros = cost
            raise
        seconds = _predict_time(seen.data)
        return RemoteResult(
            path=task.target,
            size=file.size,
            mime=file.mime,
            job=job.now("done", billed="yes", cost_micros=cost),
            cost_micros=cost,
            units=seconds,
            unit="second",
            seconds=float(seconds or 0),
            facts={"host": file.host, "version": seen.data.get("version")},
        )

    async def bill(self, job: RemoteJob, seen: Seen) -> tuple[Billed, int | None]:
        """Cancelled while it ran it is charged; aborted before it started it is not."""
        return _reckoned(self._prices.get(job.endpoint), seen.data)

    async def cancel(self, job: RemoteJob) -> bool:
        """POST to its cancel URL."""
        reply = await self.transport.free("POST", self._url(job) + "/cancel", tries=2)
        return reply.good

    async def find(self, job: RemoteJob) -> RemoteJob | None:
        """The prediction whose input is the file that was uploaded for it."""
        start = datetime.fromtimestamp(max(0.0, job.created - _CLOCK_SKEW), UTC)
        query = urlencode({"created_after": start.strftime("%Y-%m-%dT%H:%M:%SZ")})
        url = self.site.url(HOST, f"/v1/predictions?{query}")
        async for data in self.pages(url, lambda page: self.site.api_url(page.get("next"))):
            rows: Any = data.get("results")
            if not isinstance(rows, list):
                raise Failure(Kind.BROKEN, "its list of jobs is not understood.")
            for item in (each for each in rows if isinstance(each, dict)):
                sent, identity = item.get("input"), item.get("id")
                if isinstance(sent, dict) and identity and has_input(job, sent.get("image")):
                    return job.now("running", id=str(identity))
        return None

    def asked_wait(self, reply: Reply) -> float | None:
        """Retry-After, or what the text says."""
        said = super().asked_wait(reply)
        found = _RESETS.search(reply.text) if said is None and reply.status == 429 else None
        return numbers.seconds(found.group(1)) if found else said

    async def _version(self, task: RemoteTask, endpoint: str) -> str:
        """The version to name; '' for models that are named without one."""
        pinned = self._pinned.get(endpoint)
        if pinned is not None:
            return pinned
        if task.route.official:
            return ""
        if endpoint not in self._latest:
            reply = await self.transport.free("GET", self.site.url(HOST, f"/v1/models/{endpoint}"))
            if not reply.good:
                raise self.unready(reply, of_model=True)
            latest = reply.json().get("latest_version")
            known = latest.get("id") if isinstance(latest, dict) else None
            if not isinstance(known, str) or not _VERSION.fullmatch(known):
                raise Failure(Kind.GONE, f"{endpoint} has no version that could be run.")
            self._latest[endpoint] = known
        return self._latest[endpoint]

    async def _upload(self, task: RemoteTask) -> tuple[str, str]:
        task.progress(None, "uploading")
        body = form_body({}, "content", task.file, task.name, task.mime)
        url = self.site.url(HOST, "/v1/files")
        task.trail.sent(urlsplit(url).hostname or "")
        reply = await self.transport.free("POST", url, body=body, seconds=STALL_SECONDS * 2)
        if not reply.good:
            raise self.unready(reply)
        data = reply.json()
        urls = data.get("urls")
        there = urls.get("get") if isinstance(urls, dict) else None
        if not isinstance(there, str):
            raise Failure(Kind.BROKEN, "it gave no place for the picture.")
        return there, str(data.get("id", ""))

    async def _forget(self, job: RemoteJob) -> None:
        """Delete what was uploaded; it would go by itself a day later."""
        identity = job.urls.get("file", "")
        if identity:
            path = f"/v1/files/{quote(identity, safe='')}"
            with contextlib.suppress(Failure):
                await self.transport.free("DELETE", self.site.url(HOST, path), tries=1, seconds=5.0)

    def _failed(self, job: RemoteJob, seen: Seen, billed: Billed, cost: int | None) -> Failure:
        status, error = seen.data.get("status"), self.site.scrub(seen.data.get("error") or "")
        unsafe = status == "failed" and _UNSAFE.search(error)
        return Failure(
            Kind.POLICY if unsafe else Kind.RUN_FAILED,
            f"the run failed: {error}" if error else f"the run ended as {status}.",
            job=job.id,
            billed=billed,
            cost_micros=cost,
        )

    def _url(self, job: RemoteJob) -> str:
        return self.site.url(HOST, f"/v1/predictions/{quote(job.id, safe='')}")


def _predict_time(data: Mapping[str, Any]) -> Decimal | None:
    """`predict_time`, or what it is the time between; a cancelled prediction may lack it."""
    metrics = data.get("metrics")
    value = metrics.get("predict_time") if isinstance(metrics, dict) else None
    known = numbers.span(value)
    if known is not None:
        return known
    return numbers.between(data.get("started_at"), data.get("completed_at"))


def _reckoned(price: RoutePrice | None, data: Mapping[str, Any]) -> tuple[Billed, int | None]:
    """Whether a prediction that ended is billed, and what it cost where that is known."""
    status, seconds = data.get("status"), _predict_time(data)
    if status == "aborted":
        return "no", 0
    rate = price.per_second if price is not None else None
    ran = bool(seconds) or (status == "canceled" and bool(data.get("started_at")))
    if rate is not None:
        cost = None if seconds is None else numbers.micros(seconds * rate)
        return ("yes" if ran or status == "succeeded" else "maybe"), cost
    image = price.per_image if price is not None else None
    cost = None if image is None else numbers.micros(image)
    # What is priced by the picture is not known to be charged where none came.
    return ("yes", cost) if status == "succeeded" else ("maybe", None)
