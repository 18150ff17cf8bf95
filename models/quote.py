"""The Quote: what one request costs, a closed form of the result's size, `n` and the route's price.

The dry run shows it and the reply books it, so the two cannot differ. Knows of no request, no
network and no provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

MICROS = 1_000_000


@dataclass(frozen=True)
class PriceRule:
    """Prices of a route in USD: for each image, and for each million pixels of it."""

    per_image: Decimal = Decimal(0)
    per_megapixel: Decimal = Decimal(0)


@dataclass(frozen=True)
class Component:
    """One line of a Quote: `quantity` of `metric` (image, megapixel) at `unit_price` USD, for each
    of `times` results.
    """

    metric: str
    quantity: Decimal
    unit_price: Decimal
    times: int = 1

    @property
    def micros(self) -> int:
        """Its total in millionths of a dollar: each result's is rounded half to even, as results
        are billed one by one.
        """
        return self.times * round(self.quantity * self.unit_price * MICROS)

    def to_json(self) -> dict[str, Any]:
        """As the hosted gateway shows it."""
        return {
            "type": "output",
            "metric": self.metric,
            "quantity": number(self.quantity * self.times),
            "billable_quantity": number(self.quantity * self.times),
            "unit_price": float(self.unit_price),
            "total_cost": self.micros,
        }


@dataclass(frozen=True)
class Quote:
    """The price of a request, line by line."""

    components: tuple[Component, ...]

    @property
    def micros(self) -> int:
        """The total in millionths of a dollar."""
        return sum(component.micros for component in self.components)

    @property
    def cost(self) -> float:
        """The total in USD."""
        return self.micros / MICROS


def make_quote(width: int, height: int, n: int, price: PriceRule) -> Quote:
    """The Quote of `n` results of that size in pixels. A price that is 0 has no line of its own,
    where the other is not."""
    lines = []
    if price.per_image or not price.per_megapixel:
        lines.append(Component("image", Decimal(1), price.per_image, n))
    if price.per_megapixel:
        megapixels = Decimal(width * height) / 1_000_000
        lines.append(Component("megapixel", megapixels, price.per_megapixel, n))
    return Quote(tuple(lines))


def number(value: Decimal) -> int | float:
    """A decimal as JSON has it."""
    return int(value) if value == value.to_integral_value() else float(value)
