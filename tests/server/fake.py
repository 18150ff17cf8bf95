"""An engine without a device: real plans, pictures of one colour, and a gate that holds Jobs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from PIL import Image

from upscale.engine.device import DeviceProfile
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan, PlanLimits, Request, make_plan
from upscale.engine.receipt import Progress, Receipt
from upscale.engine.turns import Turns
from upscale.errors import UpscaleError
from upscale.imaging.probe import Probe
from upscale.models.contract import Contract
from upscale.models.facts import Facts
from upscale.settings import Settings
from upscale.weights.store import Network

DEVICE = DeviceProfile("cpu", "fake", "fake", 2, 2, 1 << 28, ("fp32",))


def contract(scale: int, macs: int = 1) -> Contract:
    return Contract(
        architecture="fake",
        scale=scale,
        channels_in=3,
        channels_out=3,
        context=8,
        grid=1,
        size_multiple=1,
        size_minimum=1,
        parameters=1,
        macs_per_pixel=macs,
        bytes_per_pixel=8,
        purpose="super-resolution",
    )


class FakeEngine:
    """Networks whose name ends in x2 have scale 2, all others 4."""

    def __init__(self, settings: Settings) -> None:
        self._limits = PlanLimits.of(settings)
        self.jobs: list[JobOrder] = []
        self.known: set[str] = set()
        self.failure: UpscaleError | Exception | None = None
        self.held = False
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.macs = 1
        self.turns = Turns()
        self.steps = 0
        self.seconds = 0.01
        self.alive = False

    def reset(self) -> None:
        """As new."""
        self.jobs.clear()
        self.failure, self.held = None, False
        self.steps, self.seconds = 0, 0.01
        self.begun.clear()
        self.cancelled.clear()

    async def start(self) -> None:
        self.alive = True

    async def close(self, drain_seconds: float = 0.0) -> None:
        self.alive = False

    async def contract(self, network: Network) -> Contract:
        self.known.add(network.name)
        return contract(2 if network.name.endswith("x2") else 4, self.macs)

    async def plan(self, probe: Probe, network: Network, request: Request) -> Plan:
        facts = Facts(await self.contract(network))
        ref = NetworkRef.of(network)
        return make_plan(probe, facts, ref, request, DEVICE, self._limits)

    def position(self, id: str) -> int | None:
        return self.turns.position(id)

    @property
    def waiting(self) -> int:
        return len(self.turns)

    @property
    def backlog(self) -> float:
        return self.turns.seconds

    async def run(
        self,
        job: JobOrder,
        progress: Callable[[Progress], None] | None = None,
        *,
        share: str = "",
        priority: int = 0,
        patient: bool = False,
    ) -> Receipt:
        expected = job.plan.expected_seconds
        async with self.turns.turn(job.id, share=share, priority=priority, expected=expected):
            self.jobs.append(job)
            if self.failure is not None:
                raise self.failure
            self.begun.set()
            try:
                await self._work(job, progress)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            await self.make(job)
        return receipt(job.plan, self.seconds)

    async def _work(self, job: JobOrder, progress: Callable[[Progress], None] | None) -> None:
        """Tells of `steps` tiles, and waits while it is `held`."""
        for step in range(self.steps + 1):
            if progress is not None:
                progress(Progress("upscale", step, max(1, self.steps), step * 0.1, step * 0.01))
            await asyncio.sleep(0)
        while self.held:
            await asyncio.sleep(0.01)

    async def make(self, job: JobOrder) -> None:
        """The result's file; other fakes make others."""
        output = job.plan.output
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[output.channels]
        Image.new(mode, (output.width, output.height), 7).save(job.target, output.format)


def receipt(plan: Plan, seconds: float = 0.01) -> Receipt:
    return Receipt(
        network={"name": plan.network.name, "blend": plan.network.blend},
        device={"device": "cpu", "name": "fake"},
        precision=plan.precision,
        passes=[],
        tiles={"planned": plan.tiles, "done": plan.tiles},
        size={"width": plan.width, "height": plan.height},
        output=plan.output.to_json(),
        seconds={"total": seconds},
        memory={"expected": 1, "peak": 1},
        versions={},
    )
