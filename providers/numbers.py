"""Numbers as providers tell them: what is endless, negative or absurd is none."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_MOST = Decimal(1_000_000_000)
_LONGEST_SECONDS = 1e6
_LONGEST_TEXT = 64


def amount(value: object) -> Decimal | None:
    """Units, credits or dollars, 0 to a thousand million; None for anything else."""
    text = "" if isinstance(value, bool) else str(value)[: _LONGEST_TEXT + 1].strip()
    try:
        found = Decimal(text if len(text) <= _LONGEST_TEXT else "")
    except InvalidOperation:
        return None
    return found if found.is_finite() and 0 <= found <= _MOST else None


def seconds(value: object) -> float | None:
    """A time span, up to a million seconds; None for anything else."""
    found = amount(value)
    return float(found) if found is not None and found <= _LONGEST_SECONDS else None
