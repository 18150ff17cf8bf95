"""The providers of one server: their adapters as the settings have them, prices, health. What the
server holds and asks.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from upscale import logs
from upscale.models.catalogue import CatalogueModel, RoutePrice, load_catalogue
from upscale.providers.adapter import Adapter
from upscale.providers.addresses import resolve
from upscale.providers.clock import Clock
from upscale.providers.failover import Check, Served, serve
from upscale.providers.fal import Fal
from upscale.providers.gateway import Gateway
from upscale.providers.health import Health
from upscale.providers.outcome import Failure, Kind
from upscale.providers.prices import Fetched, PriceBook, RemoteQuote
from upscale.providers.recraft import Recraft
from upscale.providers.replicate import Replicate
from upscale.providers.routes import Candidate, Survey, survey
from upscale.providers.sites import Provided, key_of, site_of, unusable
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask, nth
from upscale.providers.topaz import Topaz
from upscale.providers.transport import Transport
from upscale.providers.vertex import GoogleToken, Vertex
from upscale.settings import Settings

log = logs.get("providers")

_ALL: tuple[Provided, ...] = ("fal", "replicate", "topaz", "recraft", "vertex", "lumenfall")


class Providers:
    """All that a server needs of remote providers."""

    def __init__(
        self, settings: Settings, *, clock: Clock | None = None, resolver: Any = resolve
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.health = Health(self.clock)
        self.prices = PriceBook()
        self.adapters: dict[str, Adapter] = {}
        for provider in _ALL:
            if unusable(provider, settings) is None:
                site = site_of(provider, settings)
                transport = Transport(site, clock=self.clock, resolver=resolver)
                self.adapters[provider] = _adapter(provider, transport, settings)
        if settings.vertex_price_per_image is not None:
            own = RoutePrice(
                "", "UPSCALE_VERTEX_PRICE_PER_IMAGE", per_image=settings.vertex_price_per_image
            )
            self.prices.own |= dict.fromkeys(_endpoints("vertex"), own)

    async def aclose(self) -> None:
        """Close every connection."""
        for adapter in self.adapters.values():
            await adapter.aclose()

    def survey(
        self,
        model: CatalogueModel,
        task: RemoteTask,
        *,
        provider: str | None = None,
        allow_resample: bool = False,
    ) -> Survey:
        """The routes that can serve a task, in order, and why the others cannot."""
        return survey(
            model,
            task,
            self.settings,
            self.health,
            lambda ours: self.adapters[ours.route.provider.id].fits(ours),
            provider=provider,
            allow_resample=allow_resample,
        )

    def quote(self, task: RemoteTask) -> RemoteQuote | None:
        """What a task costs by its route, in closed form; None where that is not known."""
        return self.prices.quote(task)

    async def estimate(self, task: RemoteTask) -> int | None:
        """What the route's provider itself says, in millionths of a dollar for all `n`; asks it,
        free of charge. None where it does not say.
        """
        try:
            one = await self.adapters[task.route.provider.id].estimate(task)
        except Failure as failure:
            log.info("no estimate", extra=logs.fields(reason=failure.message))
            return None
        return None if one is None else one * task.n

    async def serve(
        self,
        candidates: tuple[Candidate, ...],
        attempts: list[dict[str, Any]],
        check: Check | None = None,
    ) -> Served:
        """The first result, by the taxonomy of failures."""
        served = await serve(candidates, self.adapters, self.health, attempts, check)
        self.prices.learn(served.candidate.route.endpoint, served.result.seconds)
        return served

    async def serve_all(
        self,
        candidates: tuple[Candidate, ...],
        attempts: list[dict[str, Any]],
        check: Check | None = None,
    ) -> list[Served]:
        """All `n` results of the task, one after the other, so that none is paid for after a
        failure; each in a file of its own beside the task's target. Raises as `serve` does: what
        was paid for by then stands in `attempts`.
        """
        results: list[Served] = []
        for index in range(candidates[0].task.n):
            ours = tuple(replace(c, task=nth(c.task, index)) for c in candidates)
            results.append(await self.serve(ours, attempts, check))
        return results

    async def resume(self, task: RemoteTask, job: RemoteJob) -> RemoteResult:
        """Go on with a job that a crash left behind. Raises Failure."""
        adapter = self.adapters.get(job.provider)
        if adapter is None:
            raise Failure(
                Kind.IN_DOUBT, "its key is gone, so nobody can ask what became of it.", job=job.id
            )
        return await adapter.resume(task, job)

    async def refresh_prices(self) -> int:
        """Fetch the prices that fal.ai publishes; how many came. At start and daily."""
        fal = self.adapters.get("fal")
        if not isinstance(fal, Fal):
            return 0
        try:
            found = await fal.prices(_endpoints("fal"))
        except Failure as failure:
            fields = logs.fields(provider="fal", reason=failure.message)
            log.warning("prices could not be fetched; the catalogue's stand", extra=fields)
            return 0
        day = time.strftime("%Y-%m-%d", time.gmtime(self.clock.wall()))
        for endpoint, (usd, unit) in found.items():
            self.prices.fetched[endpoint] = Fetched(usd, unit, day)
            fal.unit_prices[endpoint] = usd
        return len(found)


def _endpoints(provider: str) -> list[str]:
    routes = [route for model in load_catalogue().models for route in model.routes]
    return sorted({route.endpoint for route in routes if route.provider.id == provider})


def _adapter(provider: Provided, transport: Transport, settings: Settings) -> Adapter:
    if provider == "fal":
        return Fal(transport)
    if provider == "replicate":
        return Replicate(transport, versions(settings.replicate_versions))
    if provider == "topaz":
        return Topaz(transport, settings.topaz_price_per_credit)
    if provider == "recraft":
        return Recraft(transport)
    if provider == "vertex":
        return Vertex(
            transport,
            project=settings.vertex_project,
            region=settings.vertex_region,
            model=settings.vertex_model,
            watermark=settings.vertex_watermark,
            token=None if key_of("vertex", settings) else GoogleToken(),
        )
    return Gateway(transport)


def versions(text: str) -> dict[str, str]:
    """`owner/name:version, …` as a table."""
    pairs = (part.strip().rsplit(":", 1) for part in text.split(",") if ":" in part)
    return {name.strip(): version.strip() for name, version in pairs}
