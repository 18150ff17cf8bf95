"""An adapter against its stub: what every test of one needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.providers.stubs.base import Stub, running
from tests.providers.stubs.blocking import GatewayStub, RecraftStub, VertexStub
from tests.providers.stubs.fal import FalStub
from tests.providers.stubs.replicate import ReplicateStub
from tests.providers.stubs.topaz import TopazStub
from tests.providers.tools import KEYS, FastClock, Notes, make_task, settings_for
from upscale.providers.outcome import Failure
from upscale.providers.registry import Providers
from upscale.providers.task import RemoteResult
from upscale.settings import Settings

STUBS: dict[str, type[Stub]] = {
    "fal": FalStub,
    "replicate": ReplicateStub,
    "topaz": TopazStub,
    "recraft": RecraftStub,
    "vertex": VertexStub,
    "lumenfall": GatewayStub,
}
MODELS = {
    "fal": ("seedvr-image-upscale", 2),
    "replicate": ("clarity-upscaler", 2),
    "topaz": ("topaz-image-upscale", 2),
    "recraft": ("recraft-crisp-upscale", None),
    "vertex": ("google-upscaler", 2),
    "lumenfall": ("aura-sr", 4),
}
OWN = {
    "vertex_project": "house",
    "vertex_region": "us-central1",
    "topaz_price_per_credit": Decimal("0.10"),
    "vertex_price_per_image": Decimal("0.06"),
}


@contextmanager
def all_running() -> Iterator[dict[str, Stub]]:
    """Every stub, until the context ends."""
    with contextmanager(_nested)() as stubs:
        yield stubs


def _nested() -> Iterator[dict[str, Stub]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield {name: stack.enter_context(running(kind(KEYS[name]))) for name, kind in STUBS.items()}


def fresh(stub: Stub) -> Stub:
    """The same stub as if it had just been made."""
    url, files = stub.url, stub.files
    stub.__init__(stub.key)  # type: ignore[misc]
    stub.url, stub.files = url, files
    return stub


class Rig:
    """The adapter of one provider, its clock and its notes."""

    def __init__(self, provider: str, stub: Any, folder: Path) -> None:
        self.provider, self.stub, self.folder = provider, stub, folder
        self.clock, self.notes = FastClock(), Notes()

    def settings(self, **more: Any) -> Settings:
        """With this provider's key and base URL alone."""
        plain = settings_for(**{self.provider: self.stub.url})
        return plain.model_copy(update={**OWN, **more})

    def task(self, **given: Any) -> Any:
        """A task of the provider's usual model."""
        model, factor = MODELS[self.provider]
        wanted = {"model": model, "provider": self.provider, "factor": factor, **given}
        return make_task(self.folder, clock=self.clock, notes=self.notes, **wanted)

    def ask(self, question: Any, **settings: Any) -> Any:
        """What `question(adapter)` answers."""

        async def once() -> Any:
            providers = Providers(self.settings(**settings), clock=self.clock.clock)
            try:
                return await question(providers.adapters[self.provider])
            finally:
                await providers.aclose()

        return asyncio.run(once())

    def run(self, **task: Any) -> RemoteResult:
        """Have a task done."""

        async def question(adapter: Any) -> RemoteResult:
            result: RemoteResult = await adapter.run(self.task(**task))
            return result

        done: RemoteResult = self.ask(question)
        return done

    def fails(self, **task: Any) -> Failure:
        """Have a task fail."""
        with pytest.raises(Failure) as caught:
            self.run(**task)
        return caught.value

    def leave(self) -> None:
        """Go away as soon as the provider was polled."""

        async def question(adapter: Any) -> None:
            running = asyncio.create_task(adapter.run(self.task(seconds=1e9)))
            while not self.stub.polled.is_set():
                await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

        self.ask(question)
