"""What the routes of one server share, and the part of the engine that they use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request

from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.plan import Request as PlanRequest
from upscale.engine.receipt import Progress, Receipt
from upscale.imaging.pool import PixelPool
from upscale.imaging.probe import Probe
from upscale.models.catalogue import Catalogue
from upscale.models.contract import Contract
from upscale.providers.passthrough import Passthrough
from upscale.server.access import Access
from upscale.server.fetch import Fetcher
from upscale.server.media import MediaStore
from upscale.server.proxies import caller_base
from upscale.server.recording import Recorder
from upscale.server.records.database import Database
from upscale.server.records.speeds import Speeds
from upscale.server.remote import Remote
from upscale.server.running import Running
from upscale.server.spool import Spool
from upscale.settings import Settings
from upscale.weights.store import Network, Store

if TYPE_CHECKING:
    from upscale.server.background import Background
    from upscale.server.webhooks import Webhooks


class UpscaleEngine(Protocol):
    """The engine as the server sees it; `engine.client.Engine` is one."""

    async def start(self) -> None:
        """Start the worker."""

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Finish what was accepted, then stop."""

    async def contract(self, network: Network) -> Contract:
        """What must be known of a network."""

    async def plan(self, probe: Probe, network: Network, request: PlanRequest) -> Plan:
        """Decide everything before the work."""

    async def run(
        self,
        job: JobOrder,
        progress: Callable[[Progress], None] | None = None,
        *,
        share: str = "",
        priority: int = 0,
        patient: bool = False,
    ) -> Receipt:
        """Do the work in its turn; cancelling the caller cancels it."""

    def position(self, id: str) -> int | None:
        """How many Jobs run before a Job."""

    @property
    def backlog(self) -> float:
        """Expected work of all that wait, in seconds."""

    @property
    def waiting(self) -> int:
        """Jobs accepted and not finished."""

    @property
    def alive(self) -> bool:
        """Whether the worker process is there."""


@dataclass(frozen=True)
class Services:
    """One of each, made when the server starts."""

    settings: Settings
    engine: UpscaleEngine
    pool: PixelPool
    catalogue: Catalogue
    store: Store
    spool: Spool
    media: MediaStore
    fetcher: Fetcher
    database: Database
    access: Access
    recorder: Recorder
    speeds: Speeds
    running: Running
    remote: Remote
    passthrough: Passthrough | None
    background: Background
    webhooks: Webhooks


def services(request: Request) -> Services:
    """The services of the server that got `request`."""
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


def base_url(request: Request, settings: Settings) -> str:
    """The address under which callers reach this server, without a slash at its end."""
    return (settings.public_url or caller_base(request, settings.trusted_proxies)).rstrip("/")
