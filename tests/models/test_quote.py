"""Quotes: sums of their lines, linear in n, exact in millionths of a dollar."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.models.quote import PriceRule, make_quote

prices = st.decimals(0, 10, places=6)


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(1, 10), prices, prices)
def test_the_total_is_the_price_rule(
    width: int, height: int, n: int, per_image: Decimal, per_megapixel: Decimal
) -> None:
    quote = make_quote(width, height, n, PriceRule(per_image, per_megapixel))
    assert quote.micros == sum(component.to_json()["total_cost"] for component in quote.components)
    exact = n * per_image * 10**6 + n * width * height * per_megapixel
    assert abs(quote.micros - exact) <= n
    assert (
        quote.micros == n * make_quote(width, height, 1, PriceRule(per_image, per_megapixel)).micros
    )
    assert round(Decimal(str(quote.cost)) * 10**6) == quote.micros


@pytest.mark.parametrize(
    ("price", "metrics"),
    [
        (PriceRule(), ["image"]),
        (PriceRule(per_image=Decimal("0.05")), ["image"]),
        (PriceRule(per_megapixel=Decimal("0.016")), ["megapixel"]),
        (PriceRule(Decimal(1), Decimal(1)), ["image", "megapixel"]),
    ],
)
def test_a_price_has_its_lines(price: PriceRule, metrics: list[str]) -> None:
    assert [c.metric for c in make_quote(1000, 1000, 2, price).components] == metrics


def test_each_result_is_rounded_as_it_is_billed() -> None:
    quote = make_quote(33, 47, 10, PriceRule(per_megapixel=Decimal("0.03")))
    assert quote.micros == 10 * 47
    assert [c.to_json()["quantity"] for c in quote.components] == [0.01551]


def test_a_line_is_as_the_gateway_shows_it() -> None:
    [line] = make_quote(1024, 1024, 2, PriceRule(per_image=Decimal("0.04"))).components
    assert line.to_json() == {
        "type": "output",
        "metric": "image",
        "quantity": 2,
        "billable_quantity": 2,
        "unit_price": 0.04,
        "total_cost": 80000,
    }
