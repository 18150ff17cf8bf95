"""The hosted gateway as a provider: the edit that we serve ourselves, asked of it. It fails over by
itself; its replies say what they cost; its dry run prices its models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from upscale.providers import mapping, numbers
from upscale.providers.adapter import host_in
from upscale.providers.blocking import BlockingAdapter
from upscale.providers.body import Body, form_body
from upscale.providers.download import download, write_base64
from upscale.providers.outcome import Failure, Kind
from upscale.providers.task import RemoteResult, RemoteTask
from upscale.providers.transport import Reply

HOST = "api.lumenfall.ai"
_EDITS = "/openai/v1/images/edits"
_MOST_BYTES = 64 << 20  # a link was asked for; a picture in the reply is taken where it is small


class Gateway(BlockingAdapter):
    """Routes of the hosted gateway."""

    provider: ClassVar[str] = "lumenfall"
    name: ClassVar[str] = "Lumenfall"
    seconds: ClassVar[float] = 300.0

    async def estimate(self, task: RemoteTask) -> int | None:
        """Its dry run. The picture is sent along, as it asks for it."""
        url = self.site.url(HOST, f"{_EDITS}?dryRun=true")
        task.trail.sent(host_in(url))
        reply = await self.transport.free("POST", url, body=_form(task), seconds=60.0)
        if not reply.good:
            raise self.unready(reply)
        total = reply.json().get("total_cost_micros")
        if isinstance(total, bool) or not isinstance(total, int):
            return None
        return total if 0 <= total < 2**53 else None

    async def run(self, task: RemoteTask) -> RemoteResult:
        """POST the edit, fetch its picture."""
        job = self.job_of(task, mark="")
        reply = await self.ask(
            task,
            self.site.url(HOST, _EDITS),
            _form(task),
            job,
            max_bytes=min(_MOST_BYTES, task.max_bytes * 4 // 3 + (1 << 20)),
        )
        data = await asyncio.to_thread(reply.json)
        metadata = data.get("metadata")
        facts = dict(metadata) if isinstance(metadata, dict) else {}
        cost = _micros(facts.get("cost"))
        known = reply.headers.get("x-lumenfall-request-id", "")
        job = job.now("done", id=known[:100], billed="yes", cost_micros=cost)
        try:
            size, mime = await self._take(task, data)
        except Failure as failure:
            task.target.unlink(missing_ok=True)
            raise await self.spoilt(task, job, failure) from None
        result = RemoteResult(
            path=task.target, size=size, mime=mime, job=job, cost_micros=cost, facts=facts
        )
        return await self.finish(task, result)

    def kind_of(self, reply: Reply) -> Kind:
        """By its own codes first."""
        error = reply.json().get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if code == "UPSTREAM_ERROR":
            return Kind.POLICY if reply.status < 500 else Kind.RUN_FAILED
        return super().kind_of(reply)

    async def _take(self, task: RemoteTask, data: Mapping[str, Any]) -> tuple[int, str]:
        items = data.get("data")
        first = items[0] if isinstance(items, list) and items else None
        entry = first if isinstance(first, dict) else {}
        if isinstance(entry.get("b64_json"), str):
            text, most = entry["b64_json"], task.max_bytes
            return await asyncio.to_thread(write_base64, text, task.target, most), ""
        async with self.in_time(task, "yes"):
            file = await download(
                self.transport, entry.get("url"), task.target, max_bytes=task.max_bytes
            )
        return file.size, file.mime


def _form(task: RemoteTask) -> Body:
    fields = {
        "model": mapping.endpoint(task),
        "response_format": "url",
        "output_format": "png",
        **mapping.inputs(task),
    }
    return form_body(fields, "image", task.file, task.name, task.mime)


def _micros(cost: object) -> int | None:
    dollars = numbers.amount(cost)
    return None if dollars is None else numbers.micros(dollars)
