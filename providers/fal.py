"""fal.ai: its queue. The picture is uploaded first, so that a lost reply can be looked up by the
URL that it got.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

from upscale import logs
from upscale.providers import mapping, numbers
from upscale.providers.adapter import host_in
from upscale.providers.body import file_body, json_body
from upscale.providers.download import download
from upscale.providers.outcome import Billed, Failure, Kind
from upscale.providers.queued import QueueAdapter, Seen, has_input
from upscale.providers.site import bare
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import STALL_SECONDS, Reply

log = logs.get("providers")

QUEUE, REST, PLATFORM = "queue.fal.run", "rest.fal.ai", "api.fal.ai"
_MAX_BYTES = 90_000_000
_LIFETIME = '{"expiration_duration_seconds":3600}'
_CLOCK_SKEW = 120.0
_WAITING = {"IN_QUEUE": "queued", "IN_PROGRESS": "running"}
_BALANCE = ("exhausted balance", "top_up", "locked", "billing")
_PREFIXED = ("workflows", "comfy")


class Fal(QueueAdapter):
    """Routes of fal.ai. `unit_price` gives the price in USD of a unit of an endpoint."""

    provider: ClassVar[str] = "fal"
    name: ClassVar[str] = "fal.ai"

    def __init__(self, transport: Any, unit_prices: Mapping[str, Decimal] | None = None) -> None:
        super().__init__(transport)
        self.unit_prices: dict[str, Decimal] = dict(unit_prices or {})

    def fits(self, task: RemoteTask) -> str | None:
        """As the catalogue says; larger files are not uploaded."""
        if task.file.stat().st_size > _MAX_BYTES:
            return f"the file is larger than {_MAX_BYTES:,} bytes"
        return super().fits(task)

    async def submit(self, task: RemoteTask) -> tuple[RemoteJob, Reply]:
        """Upload the picture, then create the request."""
        async with self.in_time(task, "no"):
            uploaded = await self._upload(task)
        job = self.job_of(task, mark=bare(uploaded))
        rest = max(1, math.ceil(task.deadline - self.clock.now()))
        reply = await self.create(
            task,
            self.site.url(QUEUE, "/" + job.endpoint),
            json_body({"image_url": uploaded, **mapping.inputs(task)}),
            job,
            headers={
                "X-Fal-Request-Timeout": str(rest),
                "X-Fal-Object-Lifecycle-Preference": _LIFETIME,
            },
        )
        return job, reply

    def job_id(self, reply: Reply) -> str:
        """`request_id`, which the headers repeat."""
        said = reply.json().get("request_id")
        known = said or (reply.headers.get("x-fal-request-id") if reply.good else None)
        return str(known) if known and str(known).replace("-", "").isalnum() else ""

    def opened(self, job: RemoteJob, reply: Reply) -> RemoteJob:
        """With the URLs of the reply, where they are the API's and name the request."""
        identity = self.job_id(reply)
        urls = self._urls(job.endpoint, identity)
        data = reply.json()
        for name, said in (("status", "status_url"), ("result", "response_url")):
            url = self.site.api_url(data.get(said))
            if url is not None and identity in urlsplit(url).path:
                urls[name] = url.split("?", 1)[0]
        cancel = self.site.api_url(data.get("cancel_url"))
        if cancel is not None and identity in urlsplit(cancel).path:
            urls["cancel"] = cancel.split("?", 1)[0]
        return job.now("running", id=identity, urls=urls)

    async def poll(self, job: RemoteJob) -> Seen | None:
        """GET the status. COMPLETED covers failure."""
        said = await self.status(job.urls["status"] + "?logs=0")
        if said is None:
            return None
        status, data = said
        if status == "COMPLETED":
            return Seen(True, "completed", data=data)
        if status not in _WAITING:
            log.info("unknown status", extra=logs.fields(provider="fal", status=status[:40]))
        position = data.get("queue_position")
        state = _WAITING.get(status, "running")
        if state == "queued" and isinstance(position, int):
            state = f"queued behind {position}" if position > 0 else state
        return Seen(False, state)

    async def collect(self, task: RemoteTask, job: RemoteJob, seen: Seen) -> RemoteResult:
        """GET the result, then its file."""
        reply = await self._result(job)
        units = _units(reply)
        price = self._price(task)
        cost = self.micros(units, price)
        error = seen.data.get("error") or seen.data.get("error_type")
        if not reply.good or error:
            raise self._failed(reply, seen, job, units, cost)
        url = _picture(reply.json())
        if url is None:
            raise Failure(
                Kind.BAD_RESULT,
                "its answer has no picture.",
                job=job.id,
                billed="no" if units == 0 else "yes",
                cost_micros=cost,
            )
        try:
            file = await download(self.transport, url, task.target, max_bytes=task.max_bytes)
        except Failure as failure:
            failure.cost_micros = cost
            failure.billed = "no" if units == 0 else failure.billed
            raise
        metrics = seen.data.get("metrics")
        seconds = metrics.get("inference_time") if isinstance(metrics, dict) else None
        return RemoteResult(
            path=task.target,
            size=file.size,
            mime=file.mime,
            job=job.now("done", billed="yes", cost_micros=cost),
            cost_micros=cost,
            units=units,
            unit="unit",
            seconds=numbers.seconds(seconds) or 0.0,
            facts={"host": file.host},
        )

    async def bill(self, job: RemoteJob, seen: Seen) -> tuple[Billed, int | None]:
        """What the result of a request says that was to be stopped."""
        reply = await self._result(job)
        units = _units(reply)
        cost = self.micros(units, self.unit_prices.get(job.endpoint))
        if units:
            return "yes", cost
        failed = reply.status >= 500 or reply.status == 499
        if units == 0 or (failed and self.is_own(reply)):
            return "no", 0
        return ("yes" if reply.good else "maybe"), cost

    async def cancel(self, job: RemoteJob) -> bool:
        """PUT the cancel URL."""
        url = job.urls.get("cancel") or self._urls(job.endpoint, job.id)["cancel"]
        reply = await self.transport.free("PUT", url, tries=2)
        return reply.good and reply.json().get("status") != "ALREADY_COMPLETED"

    async def find(self, job: RemoteJob) -> RemoteJob | None:
        """The request whose input is the URL that was uploaded for it."""
        start = datetime.fromtimestamp(max(0.0, job.created - _CLOCK_SKEW), UTC)
        query = urlencode(
            {
                "endpoint_id": job.endpoint,
                "start": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "expand": "payloads",
            }
        )
        url = self.site.url(PLATFORM, f"/v1/models/requests/by-endpoint?{query}")

        def following(data: dict[str, Any]) -> str | None:
            cursor = data.get("next_cursor")
            more = isinstance(cursor, str) and cursor and data.get("has_more") is not False
            return f"{url}&{urlencode({'cursor': cursor})}" if more else None

        async for data in self.pages(url, following):
            lists = [rows for rows in data.values() if isinstance(rows, list)]
            if not lists:
                raise Failure(Kind.BROKEN, "its list of requests is not understood.")
            for item in (i for rows in lists for i in rows if isinstance(i, dict)):
                sent, identity = item.get("json_input"), item.get("request_id")
                if isinstance(sent, dict) and identity and has_input(job, sent.get("image_url")):
                    urls = self._urls(job.endpoint, str(identity))
                    return job.now("running", id=str(identity), urls=urls)
        return None

    async def prices(self, endpoints: list[str]) -> dict[str, tuple[Decimal, str]]:
        """The published price in USD of a unit, and the unit's name, of each endpoint. Raises
        Failure.
        """
        found: dict[str, tuple[Decimal, str]] = {}
        for at in range(0, len(endpoints), 50):
            query = urlencode({"endpoint_id": ",".join(endpoints[at : at + 50])}, safe=",/")
            url = self.site.url(PLATFORM, f"/v1/models/pricing?{query}")
            reply = await self.transport.free("GET", url)
            if not reply.good:
                raise self.unready(reply)
            entries = reply.json().get("prices")
            for entry in entries if isinstance(entries, list) else ():
                price = numbers.amount(entry.get("unit_price")) if isinstance(entry, dict) else None
                if price is not None and entry.get("currency", "USD") == "USD":
                    found[str(entry.get("endpoint_id"))] = (price, str(entry.get("unit", "")))
        return found

    def kind_of(self, reply: Reply) -> Kind:
        """As usual; a locked account is a matter of money, not of the key."""
        if reply.status == 403 and any(word in reply.text.lower() for word in _BALANCE):
            return Kind.BALANCE
        if _error_type(reply) == "content_policy_violation":
            return Kind.POLICY
        return super().kind_of(reply)

    def words(self, reply: Reply) -> str:
        """`detail` as a text, or the first of its list."""
        detail = reply.json().get("detail")
        if isinstance(detail, list) and detail and isinstance(detail[0], dict):
            return self.site.scrub(detail[0].get("msg") or detail[0].get("type") or "")
        return super().words(reply)

    async def _upload(self, task: RemoteTask) -> str:
        url = self.site.url(REST, "/storage/upload/initiate?storage_type=fal-cdn-v3")
        lifetime = {"X-Fal-Object-Lifecycle": _LIFETIME}
        wish = json_body({"content_type": task.mime, "file_name": task.name})
        reply = await self.transport.free("POST", url, body=wish, headers=lifetime)
        if not reply.good:
            raise self.unready(reply)
        data = reply.json()
        there, known = data.get("upload_url"), data.get("file_url")
        if not isinstance(there, str) or not isinstance(known, str):
            raise Failure(Kind.BROKEN, "it gave no place for the picture.")
        task.progress(None, "uploading")
        await self.transport.check_file(there)
        task.trail.sent(host_in(there))
        put = await self.transport.free(
            "PUT",
            there,
            body=file_body(task.file, task.mime),
            seconds=STALL_SECONDS * 2,
            key=False,
        )
        if not put.good:
            raise Failure(Kind.BROKEN, f"it did not take the picture (HTTP {put.status}).")
        return known

    async def _result(self, job: RemoteJob) -> Reply:
        url = job.urls.get("result") or self._urls(job.endpoint, job.id)["result"]
        try:
            return await self.transport.free("GET", url, tries=4)
        except Failure:
            raise Failure(
                Kind.RUN_FAILED, "its result could not be fetched.", job=job.id, billed="maybe"
            ) from None

    def _failed(
        self, reply: Reply, seen: Seen, job: RemoteJob, units: Decimal | None, cost: int | None
    ) -> Failure:
        words = self.words(reply) if not reply.good else ""
        words = words or self.site.scrub(
            seen.data.get("error") or seen.data.get("error_type") or ""
        )
        kind, billed = self._classed(reply, str(seen.data.get("error_type") or ""))
        if units is not None:
            billed, cost = ("yes", cost) if units else ("no", 0)
        return Failure(
            kind,
            words or "the run failed.",
            http=None if reply.good else reply.status,
            job=job.id,
            billed=billed,
            cost_micros=cost,
        )

    def _classed(self, reply: Reply, error_type: str) -> tuple[Kind, Billed]:
        kind = _error_type(reply) or error_type
        if kind == "content_policy_violation":
            return Kind.POLICY, "maybe"
        if reply.status == 422 or (reply.status == 400 and kind != "downstream_service_error"):
            return Kind.INPUT, "maybe"
        if reply.status >= 500 and self.is_own(reply):
            return Kind.RUN_FAILED, "no"
        return Kind.RUN_FAILED, "maybe"

    def _price(self, task: RemoteTask) -> Decimal | None:
        fetched = self.unit_prices.get(mapping.endpoint(task))
        price = task.route.price
        if fetched is not None or price is None:
            return fetched
        return price.per_image or price.per_megapixel or price.per_second

    def _urls(self, endpoint: str, identity: str) -> dict[str, str]:
        """Where a request is, built: only the first two segments of an endpoint's id remain."""
        parts = endpoint.split("/")
        kept = parts[:3] if parts[0] in _PREFIXED else parts[:2]
        base = self.site.url(QUEUE, f"/{'/'.join(kept)}/requests/{quote(identity, safe='')}")
        return {"status": f"{base}/status", "result": base, "cancel": f"{base}/cancel"}


def _units(reply: Reply) -> Decimal | None:
    return numbers.amount(reply.headers.get("x-fal-billable-units"))


def _error_type(reply: Reply) -> str:
    data = reply.json()
    detail = data.get("detail")
    inner = (
        detail[0].get("type")
        if isinstance(detail, list) and detail and isinstance(detail[0], dict)
        else None
    )
    return str(inner or data.get("error_type") or reply.headers.get("x-fal-error-type") or "")


def _picture(data: Mapping[str, Any]) -> str | None:
    images = data.get("images")
    image = images[0] if isinstance(images, list) and images else data.get("image")
    url = image.get("url") if isinstance(image, dict) else image
    return url if isinstance(url, str) and url else None
