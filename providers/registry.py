"""The providers of one server: their adapters as the settings have them, prices, health. What the
server holds and asks.
"""

from __future__ import annotations

import time
from typing import Any

from upscale import logs
from upscale.models.catalogue import CatalogueModel, RoutePrice, load_catalogue
from upscale.providers.adapter import Adapter
from upscale.providers.addresses import resolve
from upscale.providers.clock import Clock
from upscale.providers.failover import Check, Served, go_on, serve
from upscale.providers.fal import Fal
from upscale.providers.gateway import Gateway
from upscale.providers.health import Health
from upscale.providers.outcome import Failure, Kind, told
from upscale.providers.prices import Fetched, PriceBook, RemoteQuote
from upscale.providers.queued import QueueAdapter
from upscale.providers.recraft import Recraft
from upscale.providers.replicate import Replicate
from upscale.providers.routes import Candidate, Survey, survey
from upscale.providers.site import host_of, plain_url
from upscale.providers.sites import Provided, key_of, site_of, unusable
from upscale.providers.task import RemoteJob, RemoteTask
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

    async def go_on(
        self,
        candidates: tuple[Candidate, ...],
        job: RemoteJob,
        attempts: list[dict[str, Any]],
        check: Check | None = None,
    ) -> Served:
        """The result of a paid call that a crash left behind, by the candidate that made it."""
        own = next((c for c in candidates if c.route.provider.id == job.provider), None)
        adapter = self.adapters.get(job.provider)
        if adapter is None or own is None:
            gone = Failure(
                Kind.IN_DOUBT, "its key is gone, so nobody can ask what became of it.", job=job.id
            )
            raise told(gone, job.provider, attempts)
        return await go_on(own, job, adapter, self.health, attempts, check)

    def host_of(self, provider: str) -> str:
        """Where calls to a provider go first."""
        adapter = self.adapters.get(provider)
        found = None if adapter is None else plain_url(next(iter(adapter.site.api.values())))
        return provider if found is None else host_of(found)

    def keeps_jobs(self, provider: str) -> bool:
        """Whether a provider can be asked what became of a call."""
        return isinstance(self.adapters.get(provider), QueueAdapter)

    def can_ask(self, job: RemoteJob) -> bool:
        """Whether its provider may still tell what became of a call."""
        return bool(job.id or job.mark) and self.keeps_jobs(job.provider)

    async def abandon(self, job: RemoteJob) -> RemoteJob:
        """Stop a paid call whose caller is gone since a process died, and say what it came to.
        Never raises: where nobody can be asked, the job stays in doubt.
        """
        adapter = self.adapters.get(job.provider)
        try:
            return job if adapter is None else await adapter.abandon(job)
        except Failure as failure:
            fields = logs.fields(provider=job.provider, reason=failure.message)
            log.warning("a job could not be asked for", extra=fields)
            return job

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


def _prices(provider: str) -> dict[str, RoutePrice]:
    routes = [route for model in load_catalogue().models for route in model.routes]
    return {r.endpoint: r.price for r in routes if r.provider.id == provider and r.price}


def _adapter(provider: Provided, transport: Transport, settings: Settings) -> Adapter:
    if provider == "fal":
        return Fal(transport)
    if provider == "replicate":
        return Replicate(transport, versions(settings.replicate_versions), _prices("replicate"))
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
