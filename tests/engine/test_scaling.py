"""Sizes and passes, exactly."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.engine.scaling import parse_factor, passes, scaled
from upscale.errors import InvalidParameter

factors = st.decimals(min_value=1, max_value=16, places=3)


def test_half_rounds_up() -> None:
    assert scaled(35, Decimal("1.5")) == 53


@given(st.integers(1, 20000), factors)
def test_sizes_are_floor_of_product_and_a_half(side: int, factor: Decimal) -> None:
    assert scaled(side, factor) == (Fraction(factor) * side + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("text", ["4", "4.0", 4, 4.0, "4e0", " 4 "])
def test_spellings_of_four_are_equal(text: object) -> None:
    assert parse_factor(text) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["0", "-1", "nan", "inf", "abc", "1e9", "", "16.0001", "0.99", True, "9" * 400]
)
def test_other_factors_are_refused_with_the_field(text: object) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_factor(text)  # type: ignore[arg-type]
    assert caught.value.field == "scale_factor"


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 2, 3, 4, 8]), factors)
def test_passes_reach_the_size_and_follow_each_other(
    width: int, height: int, native: int, factor: Decimal
) -> None:
    steps = passes(width, height, native, factor)
    assert (steps[0].in_width, steps[0].in_height) == (width, height)
    assert (steps[-1].out_width, steps[-1].out_height) == (
        scaled(width, factor),
        scaled(height, factor),
    )
    for before, after in pairwise(steps):
        assert (before.out_width, before.out_height) == (after.in_width, after.in_height)
    # No pass is run that a smaller number would not have needed.
    assert len(steps) == 1 or native ** (len(steps) - 1) < factor


def test_eight_times_with_a_network_of_four_goes_through_twice() -> None:
    first, second = passes(100, 50, 4, Decimal(8))
    assert (first.out_width, first.native_width, first.resamples) == (200, 400, True)
    assert (second.out_width, second.resamples) == (800, False)
