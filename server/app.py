"""The application: routes, errors, and what starts and ends with the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from starlette.requests import Request

from upscale import __version__, logs
from upscale.engine.client import Engine
from upscale.errors import RecordsFault, UpscaleError
from upscale.imaging.pool import PixelPool
from upscale.models.catalogue import load_catalogue
from upscale.providers.passthrough import passthrough_of
from upscale.server import docs_page, edits, forwarding, listing, native
from upscale.server.access import Access
from upscale.server.background import Background
from upscale.server.cors import allow_origins
from upscale.server.envelope import Envelope
from upscale.server.errors import install_error_handlers
from upscale.server.faults import Faults
from upscale.server.feeds import Feeds
from upscale.server.fetch import Fetcher
from upscale.server.forever import forever
from upscale.server.hosts import Hosts, own_names
from upscale.server.media import MediaStore
from upscale.server.recording import Recorder
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.speeds import Speeds
from upscale.server.records.times import now_ms
from upscale.server.remote import Remote
from upscale.server.running import Running
from upscale.server.services import Services, UpscaleEngine, services
from upscale.server.spool import Spool
from upscale.server.storage.choose import choose_storage
from upscale.server.threads import asked
from upscale.server.unsettled import Unsettled
from upscale.server.webhooks import Webhooks
from upscale.settings import Settings
from upscale.weights.store import Store

log = logs.get("server")

_DAY_MS = 86_400_000
_FORGET_SECONDS = 3600.0

# How often it is looked for networks installed meanwhile.
_LOOK_SECONDS = 10.0


def create_app(settings: Settings, engine: UpscaleEngine | None = None) -> FastAPI:
    """The server as an ASGI application; `engine` takes the place of the real one.

    Nothing runs before the application starts: the engine's worker, the pixel pool and the sweeper
    of media links belong to its lifespan.
    """
    database = Database.of(settings)
    recorder, running = Recorder(database, Feeds()), Running()
    webhooks = Webhooks(settings, recorder)
    spool = Spool(
        settings.data_dir / "spool",
        max_bytes=settings.max_spool_bytes,
        min_free_bytes=settings.min_free_bytes,
    )
    pool, catalogue = PixelPool(settings.pixel_workers), load_catalogue()
    ours = Services(
        settings=settings,
        engine=engine if engine is not None else Engine(settings),
        pool=pool,
        catalogue=catalogue,
        store=Store(settings.weights_folder),
        spool=spool,
        media=MediaStore(
            choose_storage(settings),
            settings.media_ttl_seconds,
            settings.media_quota_bytes,
            jobs_ttl=settings.background_ttl_seconds,
        ),
        fetcher=Fetcher(settings),
        database=database,
        access=Access(KeyRing(database), settings),
        recorder=recorder,
        speeds=Speeds(database),
        running=running,
        remote=Remote(settings, pool, catalogue),
        passthrough=passthrough_of(settings),
        background=Background(
            settings.data_dir / "jobs",
            database,
            recorder,
            running,
            spool,
            settings.background_limit,
            webhooks,
        ),
        webhooks=webhooks,
    )
    app = FastAPI(
        title="upscale",
        version=__version__,
        lifespan=lambda _: _running(ours),
        # Our own pages (`docs_page`) load nothing from elsewhere. Never a redirect: clients do not
        # follow.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = ours
    for router in (edits.router, forwarding.router, listing.models, native.router):
        app.include_router(router, dependencies=[Depends(admit)])
    for router in (listing.router, docs_page.router):
        app.include_router(router)
    install_error_handlers(app)
    # From the innermost to the outermost.
    app.add_middleware(Faults)
    app.add_middleware(Hosts, names=own_names(settings))
    allow_origins(app, settings.cors_origins)
    app.add_middleware(Envelope)
    return app


async def _get_to_know(ours: Services) -> None:
    """Measure what is installed and not known yet, so that no request has to wait for it and no
    dry run has a network loaded.
    """
    failed: set[str] = set()
    while True:
        for network in await asyncio.to_thread(ours.store.networks):
            if network.sha256 in failed:
                continue
            try:
                await ours.engine.contract(network)
            except UpscaleError as error:
                failed.add(network.sha256)
                log.error("not known", extra=logs.fields(network=network.name, why=error.message))
        await asyncio.sleep(_LOOK_SECONDS)


async def _forget_forever(ours: Services) -> None:
    """Delete records that are older than the operator wants them, and what they alone have kept."""
    days = ours.settings.records_days
    while days:
        with contextlib.suppress(RecordsFault):  # logged; tried again
            gone = await asked(ours.recorder.log.expire, now_ms() - days * _DAY_MS)
            for name in gone.media:
                await asyncio.to_thread(ours.media.discard, name)
        await asyncio.sleep(_FORGET_SECONDS)


async def admit(request: Request) -> None:
    """Let in who may come in, and remember who it is. Raises AuthenticationFailed."""
    await services(request).access.admit(request)


@contextlib.asynccontextmanager
async def _running(ours: Services) -> AsyncIterator[None]:
    ours.spool.open()
    ours.media.open()
    await asyncio.to_thread(ours.database.open)
    await asyncio.to_thread(ours.background.open)
    await ours.engine.start()
    unsettled = Unsettled(ours.remote.providers, ours.recorder, ours.running)
    # In the order in which they end.
    tasks = [
        asyncio.create_task(forever(name, work))
        for name, work in (
            ("background jobs", lambda: ours.background.run_forever(ours)),
            ("sweeping of results", ours.media.sweep_forever),
            ("sweeping of the spool", ours.spool.sweep_forever),
            ("ends that are owed", ours.recorder.catch_up_forever),
            ("forgetting of records", lambda: _forget_forever(ours)),
            ("getting to know networks", lambda: _get_to_know(ours)),
            ("prices of providers", ours.remote.refresh_prices_forever),
            ("paid calls left behind", unsettled.settle_forever),
        )
    ]
    ours.webhooks.start(ours)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        drain = ours.settings.drain_seconds
        await ours.background.close(drain)
        await ours.engine.close(drain)
        await ours.recorder.catch_up()
        await ours.webhooks.close()
        await ours.remote.aclose()
        ours.pool.close()
        ours.spool.close()
        await asyncio.to_thread(ours.database.close)
