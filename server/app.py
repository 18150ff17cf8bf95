"""The application: routes, errors, and what starts and ends with the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from upscale import __version__, logs
from upscale.engine.client import Engine
from upscale.errors import UpscaleError
from upscale.imaging.pool import PixelPool
from upscale.models.catalogue import load_catalogue
from upscale.server import docs_page, edits, listing
from upscale.server.cors import allow_origins
from upscale.server.envelope import Envelope
from upscale.server.errors import install_error_handlers
from upscale.server.faults import Faults
from upscale.server.fetch import Fetcher
from upscale.server.hosts import Hosts, own_names
from upscale.server.media import MediaStore
from upscale.server.services import Services, UpscaleEngine
from upscale.server.spool import Spool
from upscale.server.storage.choose import choose_storage
from upscale.settings import Settings
from upscale.weights.store import Store

log = logs.get("server")

# How often it is looked for networks installed meanwhile.
_LOOK_SECONDS = 10.0


def create_app(settings: Settings, engine: UpscaleEngine | None = None) -> FastAPI:
    """The server as an ASGI application; `engine` takes the place of the real one.

    Nothing runs before the application starts: the engine's worker, the pixel pool and the sweeper
    of media links belong to its lifespan.
    """
    ours = Services(
        settings=settings,
        engine=engine if engine is not None else Engine(settings),
        pool=PixelPool(settings.pixel_workers),
        catalogue=load_catalogue(),
        store=Store(settings.weights_folder),
        spool=Spool(
            settings.data_dir / "spool",
            max_bytes=settings.max_spool_bytes,
            min_free_bytes=settings.min_free_bytes,
        ),
        media=MediaStore(
            choose_storage(settings), settings.media_ttl_seconds, settings.media_quota_bytes
        ),
        fetcher=Fetcher(settings),
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
    app.include_router(edits.router)
    app.include_router(listing.router)
    app.include_router(docs_page.router)
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


@contextlib.asynccontextmanager
async def _running(ours: Services) -> AsyncIterator[None]:
    ours.spool.open()
    ours.media.open()
    await ours.engine.start()
    background = [
        asyncio.create_task(ours.media.sweep_forever()),
        asyncio.create_task(ours.spool.sweep_forever()),
        asyncio.create_task(_get_to_know(ours)),
    ]
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await ours.engine.close(ours.settings.drain_seconds)
        ours.pool.close()
        ours.spool.close()
