"""Which remote routes can serve a task, in which order, and why the others cannot. Pure: settings,
catalogue and health in, candidates out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from upscale.errors import InvalidRequest, ModelDisabled, UpscaleError
from upscale.models.catalogue import CatalogueModel, RemoteRoute, RouteScale
from upscale.providers.health import Health
from upscale.providers.sites import unusable
from upscale.providers.task import RemoteTask, Trail
from upscale.settings import Settings


@dataclass(frozen=True)
class Skipped:
    """A route that cannot be used; `key` is the variable that would enable it, '' for other
    reasons.
    """

    route: RemoteRoute
    reason: str
    key: str = ""

    def to_json(self) -> dict[str, object]:
        """For the receipt."""
        return {
            "provider": self.route.provider.id,
            "endpoint": self.route.endpoint,
            "skipped": self.reason,
        }


@dataclass(frozen=True)
class Candidate:
    """A route that can be used, with the task as it gets it; `resample` where its result has
    another size than the caller asked for.
    """

    route: RemoteRoute
    task: RemoteTask
    resample: bool = False


@dataclass(frozen=True)
class Survey:
    """Candidates in the order in which they are tried, and the rest."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]


def configured(
    model: CatalogueModel, settings: Settings, health: Health, provider: str | None = None
) -> tuple[list[RemoteRoute], list[Skipped]]:
    """The routes that the settings allow, in order, and the rest. `provider` forces one."""
    good, skipped = [], []
    for route in model.routes:
        if provider is not None and route.provider.id != provider:
            continue
        reason = unusable(route.provider.id, settings)
        off = health.off(route)
        if reason is not None:
            needs_key = "key" in reason or "not set" in reason
            text = f"{route.provider.name}: {reason}"
            skipped.append(Skipped(route, text, route.provider.key if needs_key else ""))
        elif off is not None:
            skipped.append(Skipped(route, f"{route.provider.name} is off: {off.rstrip('.')}"))
        else:
            good.append(route)
    # Routes that failed of late come last, in their order.
    return sorted(good, key=lambda route: health.cooling(route) > 0), skipped


def survey(
    model: CatalogueModel,
    task: RemoteTask,
    settings: Settings,
    health: Health,
    fits: Callable[[RemoteTask], str | None],
    *,
    provider: str | None = None,
    allow_resample: bool = False,
) -> Survey:
    """The routes that can serve `task`, whose own route does not matter. `fits` asks an adapter."""
    routes, skipped = configured(model, settings, health, provider)
    candidates = []
    for route in routes:
        ours = replace(task, route=route, trail=Trail())
        resample = False
        if allow_resample and task.factor is not None and route.scale.bars(task.factor):
            ours = replace(ours, factor=nearest(route.scale, task.factor))
            resample = True
        reason = fits(ours)
        if reason is None:
            candidates.append(Candidate(route, ours, resample))
        else:
            skipped.append(Skipped(route, f"{route.provider.name}: {reason}"))
    # What a route can do by itself is better than anything resampled.
    candidates.sort(key=lambda candidate: candidate.resample)
    return Survey(tuple(candidates), tuple(skipped))


def nearest(scale: RouteScale, factor: Decimal) -> Decimal:
    """The factor of a route from whose result one of `factor` is resampled: the next larger one,
    else its largest.
    """
    if scale.kind == "choices":
        choices = sorted(choice for choice, _ in scale.choices)
        return next((choice for choice in choices if choice >= factor), choices[-1])
    if scale.kind == "number":
        return min(max(factor, scale.minimum), scale.maximum)
    return factor


def none_left(model: CatalogueModel, skipped: Sequence[Skipped]) -> UpscaleError:
    """The error where no route can be used: the keys that would enable one, or what bars each."""
    keyless = [s for s in skipped if s.key]
    if skipped and len(keyless) < len(skipped):
        reasons = "; ".join(s.reason for s in skipped if not s.key)
        return InvalidRequest(f"No provider can serve this request of '{model.id}': {reasons}.")
    keys = " or ".join(f"{s.key} ({s.route.provider.name})" for s in keyless)
    return ModelDisabled(
        f"'{model.id}' needs a provider's key on the server: {keys or 'none known'}."
    )
