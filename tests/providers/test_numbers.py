"""Numbers as providers tell them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from upscale.providers import numbers

ABSURD = ["1e30", "1e999999999", "-1", "NaN", "inf", "", None, True, "9" * 401, [1]]


@pytest.mark.parametrize("told", ABSURD)
def test_absurd_ones_are_none(told: object) -> None:
    assert numbers.amount(told) is None
    assert numbers.seconds(told) is None


def test_plain_ones_are_taken() -> None:
    assert numbers.amount("2.5") == Decimal("2.5")
    assert numbers.amount(0) == 0
    assert numbers.seconds(12.25) == 12.25
    assert numbers.seconds(10**7) is None


def test_moments_are_later_than_amounts_go() -> None:
    assert numbers.moment(1_790_000_000) == 1_790_000_000
    for odd in ("nan", "inf", -1, None, True, "9" * 401):
        assert numbers.moment(odd) is None


def test_costs_that_no_record_can_hold_are_none() -> None:
    assert numbers.micros(Decimal("0.0000015")) == 2
    assert numbers.micros(Decimal(10) ** 18) is None


def test_seconds_between_two_moments() -> None:
    start = "2026-01-01T00:00:00Z"
    assert numbers.between(start, "2026-01-01T00:01:00.25Z") == Decimal("60.25")
    for odd in ("2025-12-31T00:00:00Z", "2026-01-01T00:00:00", "soon", None, 7):
        assert numbers.between(start, odd) is None
