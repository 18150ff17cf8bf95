"""Quotes of remote routes: closed forms of what providers publish, the operator's own prices, and
prices that were fetched. What nobody publishes has no quote. Asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from upscale.models.catalogue import RemoteRoute, RoutePrice
from upscale.models.quote import Component, PriceRule, Quote, make_quote
from upscale.providers import mapping
from upscale.providers.task import RemoteTask

_PIXELS = 1_000_000
_LONGEST_SECONDS = 1e6
_RULES = {
    "image": "per_image",
    "megapixel": "per_megapixel",
    "second": "per_second",
    "compute second": "per_second",
    "gpu second": "per_second",
}
"""Which of our rules a provider's unit is."""


@dataclass(frozen=True)
class RemoteQuote:
    """A Quote of a route: `approximate` where the run decides, `read` when the price was read
    (year and month, or day), `source` where.
    """

    quote: Quote
    approximate: bool
    read: str
    source: str


@dataclass(frozen=True)
class Fetched:
    """A price of an endpoint as its provider tells it: USD for a `unit`, read on `day`."""

    usd: Decimal
    unit: str
    day: str


@dataclass
class PriceBook:
    """What is known beyond the catalogue: fetched prices and the operator's, by endpoint; seconds
    that runs took, of late.
    """

    fetched: dict[str, Fetched] = field(default_factory=dict)
    own: dict[str, RoutePrice] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def learn(self, endpoint: str, seconds: float) -> None:
        """A run took so long: a running mean, for prices by time."""
        if 0 < seconds < _LONGEST_SECONDS:
            known = self.seconds.get(endpoint, seconds)
            self.seconds[endpoint] = known + (seconds - known) / 4

    def price(self, route: RemoteRoute) -> RoutePrice | None:
        """The price of a route: the operator's, else the fetched one, else the catalogue's. None
        where it was fetched for a unit that nobody here can count: it is billed by that. A table
        by size is still the best guess then, and no more than that.
        """
        own = self.own.get(route.endpoint)
        if own is not None:
            return own
        fetched, known = self.fetched.get(route.endpoint), route.price
        if fetched is None:
            return known
        rule = _RULES.get(fetched.unit.lower().strip().removesuffix("s"))
        # Where the size makes the price, a picture may be several of its "images".
        if known is not None and known.tiers and rule in (None, "per_image"):
            return replace(known, tiers=tuple(replace(t, approximate=True) for t in known.tiers))
        if rule is None:
            return None
        source = f"{route.provider.name}'s price list"
        amounts: dict[str, Any] = {rule: fetched.usd}
        return RoutePrice(fetched.day, source, **amounts)

    def quote(self, task: RemoteTask) -> RemoteQuote | None:
        """The Quote of the task's `n` results; None where the price is not known."""
        price = self.price(task.route)
        if price is None or mapping.variant(task.route, task.fields) is not None:
            return None
        found = self._quote(task, price)
        if found is None:
            return None
        quote, approximate = found
        return RemoteQuote(quote, approximate, price.read, price.source)

    def _quote(self, task: RemoteTask, price: RoutePrice) -> tuple[Quote, bool] | None:
        size, n = task.expected, task.n
        if price.tiers:
            if size is None:
                return None
            for tier in price.tiers:
                if Decimal(size[0] * size[1]) / _PIXELS <= tier.up_to:
                    return Quote((Component("image", Decimal(1), tier.usd, n),)), tier.approximate
            return None
        if price.per_image is not None:
            return make_quote(1, 1, n, PriceRule(per_image=price.per_image)), False
        if price.per_megapixel is not None:
            if size is None:
                return None
            return make_quote(*size, n, PriceRule(per_megapixel=price.per_megapixel)), False
        if price.per_second is not None and task.route.endpoint in self.seconds:
            seconds = Decimal(str(round(self.seconds[task.route.endpoint], 3)))
            return Quote((Component("second", seconds, price.per_second, n),)), True
        if price.typical is not None:
            return Quote((Component("image", Decimal(1), price.typical, n),)), True
        return None
