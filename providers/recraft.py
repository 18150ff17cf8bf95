"""Recraft: one blocking call, whose reply says what it cost. A lost reply cannot be looked up."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import ClassVar

from upscale.providers import mapping, numbers
from upscale.providers.blocking import BlockingAdapter
from upscale.providers.body import form_body
from upscale.providers.download import download
from upscale.providers.outcome import Failure, Kind
from upscale.providers.task import RemoteResult, RemoteTask
from upscale.providers.transport import Reply

HOST = "external.api.recraft.ai"
_UNITS_A_DOLLAR = 1000
_BALANCE_STATUSES = (400, 403)
# That units are missing, never that there is something about the picture (its white balance).
_BALANCE = re.compile(
    r"(?:enough|insufficient|no|out of|exhausted)\W+(?:\w+\W+){0,2}?(?:credits|funds|api units)\b"
    r"|(?:insufficient|exhausted)\W+(?:(?:account|credits?|api)\W+)?balance\b"
    r"|(?:credits|funds|account balance|credits? balance)\W+(?:\w+\W+){0,2}?"
    r"(?:enough|insufficient|exhausted|empty|too low|used up)\b",
    re.IGNORECASE,
)


class Recraft(BlockingAdapter):
    """Routes of Recraft."""

    provider: ClassVar[str] = "recraft"
    name: ClassVar[str] = "Recraft"
    seconds: ClassVar[float] = 180.0

    async def run(self, task: RemoteTask) -> RemoteResult:
        """POST the picture, fetch the result."""
        job = self.job_of(task, mark="")
        body = form_body(mapping.inputs(task), "image", task.file, task.name, task.mime)
        reply = await self.ask(task, self.site.url(HOST, f"/v1{job.endpoint}"), body, job)
        data = reply.json()
        units = _units(data.get("credits"))
        cost = self.micros(units, Decimal(1) / _UNITS_A_DOLLAR)
        image = data.get("image")
        known = image.get("image_id") if isinstance(image, dict) else None
        job = job.now("done", id=str(known or ""), billed="yes", cost_micros=cost)
        try:
            url = image.get("url") if isinstance(image, dict) else None
            async with self.in_time(task, "yes"):
                file = await download(self.transport, url, task.target, max_bytes=task.max_bytes)
        except Failure as failure:
            raise await self.spoilt(task, job, failure) from None
        result = RemoteResult(
            path=task.target,
            size=file.size,
            mime=file.mime,
            job=job,
            cost_micros=cost,
            units=units,
            unit="unit",
            facts={"host": file.host},
        )
        return await self.finish(task, result)

    def kind_of(self, reply: Reply) -> Kind:
        """As usual; an account without units may be told in words only."""
        words = reply.text[:2000].replace("_", " ")
        if reply.status in _BALANCE_STATUSES and _BALANCE.search(words):
            return Kind.BALANCE
        return super().kind_of(reply)

    def is_own(self, reply: Reply) -> bool:
        """As usual; its own server errors may be plain text, too."""
        plain = reply.headers.get("content-type", "").startswith("text/plain")
        return super().is_own(reply) or (reply.status == 500 and plain and bool(reply.content))


def _units(value: object) -> Decimal | None:
    return numbers.amount(value)
