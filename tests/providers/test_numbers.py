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
