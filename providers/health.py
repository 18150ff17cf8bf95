"""How routes have fared: recent failures put one last, some put it out of use. Asks nobody."""

from __future__ import annotations

from dataclasses import dataclass

from upscale.models.catalogue import RemoteRoute
from upscale.providers.clock import Clock
from upscale.providers.outcome import Failure, Kind

_COOL_SECONDS, _LONGEST_SECONDS = 60.0, 900.0


@dataclass
class _Record:
    failures: int = 0
    until: float = 0.0


class Health:
    """Of all routes of one process. What it knows goes with the process, as settings do."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._records: dict[tuple[str, str], _Record] = {}
        self._off: dict[tuple[str, str], str] = {}

    def failed(self, route: RemoteRoute, failure: Failure) -> None:
        """A route failed: it cools down, the longer the more often; or it goes off."""
        if failure.outcome.off:
            # A key is the whole provider's; a model that is gone is one endpoint.
            endpoint = route.endpoint if failure.kind is Kind.GONE else ""
            self._off[route.provider.id, endpoint] = failure.shown
            return
        if failure.outcome.blame:
            record = self._records.setdefault(_name(route), _Record())
            record.failures += 1
            pause = min(_LONGEST_SECONDS, _COOL_SECONDS * 2 ** (record.failures - 1))
            record.until = self._clock.now() + max(pause, failure.retry_after or 0.0)

    def succeeded(self, route: RemoteRoute) -> None:
        """A route served: what was before is forgotten."""
        self._records.pop(_name(route), None)

    def off(self, route: RemoteRoute) -> str | None:
        """Why a route is out of use until the settings change; None where it is not."""
        provider = route.provider.id
        return self._off.get((provider, "")) or self._off.get(_name(route))

    def cooling(self, route: RemoteRoute) -> float:
        """Seconds until a route is as good as others again; 0 where it is."""
        record = self._records.get(_name(route))
        return max(0.0, record.until - self._clock.now()) if record is not None else 0.0

    def clear(self) -> None:
        """Forget everything, as after a change of settings."""
        self._records.clear()
        self._off.clear()


def _name(route: RemoteRoute) -> tuple[str, str]:
    return route.provider.id, route.endpoint
