"""Factors and sizes: how large a result is, and in how many passes of a network it is reached.

Exact arithmetic on decimals and integers; nothing here knows pixels or networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from upscale.errors import InvalidParameter

MINIMUM_FACTOR, MAXIMUM_FACTOR = Decimal(1), Decimal(16)

# Longer numbers than any client means; they would only cost time.
_MAX_DIGITS = 32


def parse_factor(text: str | int | float | Decimal) -> Decimal:
    """A scale factor for each axis, 1 to 16, from a request or the command line.

    Raises InvalidParameter for anything else, not-a-number and infinities included.
    """
    allowed = f"a number from {MINIMUM_FACTOR} to {MAXIMUM_FACTOR}"
    shown = str(text).strip()
    try:
        factor = Decimal(shown) if len(shown) <= _MAX_DIGITS else Decimal("NaN")
    except InvalidOperation:
        raise InvalidParameter("scale_factor", text, allowed) from None
    if isinstance(text, bool) or not factor.is_finite():
        raise InvalidParameter("scale_factor", text, allowed)
    if not MINIMUM_FACTOR <= factor <= MAXIMUM_FACTOR:
        raise InvalidParameter("scale_factor", text, allowed)
    return factor


def scaled(side: int, factor: Decimal) -> int:
    """floor(side x factor + 1/2), at least 1: 35 x 1.5 = 53, the same everywhere."""
    exact = side * factor + Decimal("0.5")
    return max(1, int(exact.to_integral_value(ROUND_FLOOR)))


@dataclass(frozen=True)
class PassSize:
    """One run of a network: what goes in, what comes out, the size it is resampled to (pixels)."""

    in_width: int
    in_height: int
    native_width: int
    native_height: int
    out_width: int
    out_height: int

    @property
    def resamples(self) -> bool:
        """Whether a resample follows the network."""
        return (self.native_width, self.native_height) != (self.out_width, self.out_height)


def passes(width: int, height: int, native: int, factor: Decimal) -> tuple[PassSize, ...]:
    """The passes that enlarge width x height by `factor` with a network of scale `native`.

    Every pass but the last is resampled to what the next needs: the result over `native`, so that
    nothing is computed that is thrown away. A network of scale 1 runs once.
    """
    count = 1
    while native > 1 and Decimal(native) ** count < factor:
        count += 1
    sizes: list[PassSize] = []
    in_width, in_height = width, height
    for index in range(count):
        left = count - 1 - index
        share = factor / Decimal(native) ** left
        out_width, out_height = scaled(width, share), scaled(height, share)
        sizes.append(
            PassSize(
                in_width, in_height, in_width * native, in_height * native, out_width, out_height
            )
        )
        in_width, in_height = out_width, out_height
    return tuple(sizes)
