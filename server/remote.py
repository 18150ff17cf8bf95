"""One upscale by a remote provider: what is decided before it, and the run with all its attempts.

Nothing here waits for the device: pictures are made ready, measured and written anew by the pixel
pool. A picture goes nowhere but to the routes of a decision, and each paid call is in the request's
record before it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from upscale.errors import InvalidRequest, ModelDisabled, QueueFull
from upscale.imaging.exchange import Sendable
from upscale.imaging.pool import PixelPool
from upscale.imaging.probe import Probe
from upscale.models.catalogue import Catalogue, CatalogueModel, RemoteRoute
from upscale.models.quote import Component
from upscale.providers.registry import Providers
from upscale.providers.routes import Candidate, Skipped, Survey, configured, none_left
from upscale.providers.task import RemoteTask
from upscale.server.choosing import not_served
from upscale.server.limits import check_size
from upscale.server.remote_plan import (
    Price,
    RemotePlan,
    RemoteWish,
    bytes_of,
    cap_of,
    name_of,
    size_of,
)
from upscale.server.remote_run import Earlier, Keep, RemoteRun
from upscale.settings import Settings

_RETRY_AFTER = 10
NOTHING = Earlier()


class Remote:
    """The remote providers of one server. Belongs to the event loop."""

    def __init__(
        self,
        settings: Settings,
        pool: PixelPool,
        catalogue: Catalogue,
        providers: Providers | None = None,
    ) -> None:
        self.settings, self._pool, self._catalogue = settings, pool, catalogue
        self.providers = providers or Providers(settings)
        self._at_work = 0

    async def aclose(self) -> None:
        """Close every connection."""
        await self.providers.aclose()

    async def refresh_prices_forever(self) -> None:
        """Fetch the prices that providers publish, now and daily, until cancelled."""
        while True:
            await self.providers.refresh_prices()
            await asyncio.sleep(86_400)

    def usable(self, model: CatalogueModel) -> list[RemoteRoute]:
        """The routes of the model that can be used, in the order in which they are tried."""
        return configured(model, self.settings, self.providers.health)[0]

    def check(self, model: CatalogueModel, provider: str | None) -> None:
        """Raise what stands against any route of a model that does not run here, before its picture
        is looked at.
        """
        good, skipped = configured(model, self.settings, self.providers.health, provider)
        if good:
            return
        if provider is not None and skipped and all(each.key for each in skipped):
            raise none_left(model, skipped)
        error = not_served(model, _keys(skipped), _whys(skipped))
        if provider is not None and not skipped:
            raise ModelDisabled(f"'{provider}' has no route for '{model.id}'. {error.message}")
        raise error

    def missing_keys(self, model: CatalogueModel) -> list[str]:
        """The keys of providers that would make the model servable."""
        return _keys(configured(model, self.settings, self.providers.health)[1])

    async def decide(
        self,
        wish: RemoteWish,
        source: Path,
        probe: Probe,
        folder: Path,
        sent: list[tuple[str, int]],
    ) -> RemotePlan:
        """Make the picture ready, find the routes and what they cost. Nothing is sent, but what a
        provider's own estimate needs: `sent` is told of it (hosts, bytes), whatever comes.

        Raises TooLarge, InvalidRequest, ModelDisabled, and what preparing raises.
        """
        model = self._catalogue.model(wish.model)
        assert model is not None
        size = size_of(wish, probe)
        if size is not None:
            check_size(wish.output_format, size, self.settings)
        sendable = await self._pool.prepare(source, probe, folder)
        found = [
            self.providers.survey(
                model,
                self._task(wish, probe, sendable, model.routes[0], folder, mime),
                provider=wish.provider,
                allow_resample=wish.allow_resample,
            )
            for mime in _kinds(sendable)
        ]
        # In the order of the first survey that has the route: a JPEG where the PNG is too large.
        chosen: dict[tuple[str, str], Candidate] = {}
        for each in found[0].candidates if len(found) == 1 else _in_order(found):
            chosen.setdefault(name_of(each.route), each)
        candidates = tuple(sorted(chosen.values(), key=lambda candidate: candidate.resample))
        skipped = tuple(s for s in found[-1].skipped if name_of(s.route) not in chosen)
        if not candidates:
            raise none_left(model, skipped)
        try:
            priced = await self._priced(wish, candidates)
        finally:
            for each in candidates:
                told = bytes_of(each.task, sendable)
                sent += [(host, told) for host in each.task.trail.sent_to]
        if wish.priced:
            kept = tuple(c for c in candidates if name_of(c.route) in priced)
            if not kept:
                raise InvalidRequest(
                    f"Nobody publishes what '{wish.model}' costs by "
                    f"{', '.join(c.route.provider.name for c in candidates)}: a key with a "
                    "spending limit cannot use it.",
                    field="model",
                )
            candidates = kept
        seconds = self.providers.prices.seconds.get(candidates[0].route.endpoint)
        return RemotePlan(
            wish,
            source,
            probe,
            sendable,
            candidates,
            skipped,
            priced,
            expected_seconds=None if seconds is None else round(seconds * wish.n, 2),
            asked=tuple(sent),
        )

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile one more request waits for providers. Raises QueueFull."""
        limit = self.settings.provider_limit
        if self._at_work >= limit:
            raise QueueFull(
                f"{self._at_work} requests wait for remote providers, as many as may. "
                "Try again later.",
                retry_after=_RETRY_AFTER,
            )
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def run(
        self,
        request_id: str,
        plan: RemotePlan,
        folder: Path,
        *,
        seconds: float,
        keep: Keep,
        progress: Callable[[float | None, str], None],
        leaves: Callable[[], bool] = lambda: False,
        earlier: Earlier = NOTHING,
    ) -> RemoteRun:
        """A run of `plan`, to be begun; it has `seconds`, and its files lie in `folder`. `leaves`:
        see `RemoteTask`; `earlier`: what an earlier process has done for it.
        """
        deadline = self.providers.clock.now() + seconds
        ours = RemoteRun(
            self.providers, self._pool, self.settings, plan, folder, keep, earlier=earlier
        )
        tasks = tuple(
            replace(
                each,
                task=replace(
                    each.task,
                    request_id=request_id,
                    deadline=deadline,
                    target=folder / "came",
                    progress=progress,
                    note=ours.note,
                    leaves=leaves,
                ),
            )
            for each in plan.candidates
        )
        ours.candidates = tasks
        return ours

    def _task(
        self,
        wish: RemoteWish,
        probe: Probe,
        sendable: Sendable,
        route: RemoteRoute,
        folder: Path,
        mime: str,
    ) -> RemoteTask:
        return RemoteTask(
            request_id="",
            model=wish.model,
            route=route,
            file=Path(sendable.png if mime == "image/png" else sendable.jpeg or sendable.png),
            mime=mime,
            width=sendable.width,
            height=sendable.height,
            target=folder / "came",
            max_bytes=cap_of(wish, probe),
            deadline=float("inf"),
            factor=wish.factor,
            fields=wish.fields,
            n=wish.n,
        )

    async def _priced(
        self, wish: RemoteWish, candidates: tuple[Candidate, ...]
    ) -> dict[tuple[str, str], Price]:
        """Prices as far as they are known. A provider is asked for its own only where the first
        route has none: some want the picture for it.
        """
        prices: dict[tuple[str, str], Price] = {}
        for index, each in enumerate(candidates):
            quote = self.providers.quote(each.task)
            if quote is not None:
                prices[name_of(each.route)] = Price(
                    quote.quote.micros,
                    quote.quote.components,
                    quote.approximate,
                    quote.source,
                    quote.read,
                )
            elif index == 0 or (wish.priced and not prices):
                micros = await self.providers.estimate(each.task)
                if micros is not None:
                    prices[name_of(each.route)] = _told(micros, wish.n, each.route)
        return prices


def _keys(skipped: Sequence[Skipped]) -> list[str]:
    return [f"{s.key} ({s.route.provider.name})" for s in skipped if s.key]


def _whys(skipped: Sequence[Skipped]) -> str:
    """What bars routes besides their keys; once where it is the same for all of them."""
    reasons = [s.reason for s in skipped if not s.key]
    shared = {reason.partition(": ")[2] for reason in reasons}
    return shared.pop() if len(shared) == 1 < len(reasons) and all(shared) else "; ".join(reasons)


def _in_order(surveys: list[Survey]) -> list[Candidate]:
    """Candidates of a survey of the PNG and one of the JPEG, which is the smaller file: by JPEG
    where the route takes it, else by PNG, in the order of either.
    """
    png, jpeg = surveys
    by_jpeg = {name_of(c.route): c for c in jpeg.candidates}
    order = [*png.candidates, *jpeg.candidates]
    return [by_jpeg.get(name_of(c.route), c) for c in order]


def _kinds(sendable: Sendable) -> tuple[str, ...]:
    return ("image/png",) if sendable.jpeg is None else ("image/png", "image/jpeg")


def _told(micros: int, n: int, route: RemoteRoute) -> Price:
    each = Component("image", Decimal(n), Decimal(micros) / n / 1_000_000)
    return Price(micros, (each,), False, f"{route.provider.name}'s own estimate", "")
