"""Numbers as providers tell them: what is endless, negative or absurd is none."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation

_MOST = Decimal(1_000_000_000)
_LONGEST_SECONDS = 1_000_000
_LATEST = 1e11
_MOST_MICROS = 2**53
_LONGEST_TEXT = 64


def amount(value: object) -> Decimal | None:
    """Units, credits or dollars, 0 to a thousand million; None for anything else."""
    text = "" if isinstance(value, bool) else str(value)[: _LONGEST_TEXT + 1].strip()
    try:
        found = Decimal(text if len(text) <= _LONGEST_TEXT else "")
    except InvalidOperation:
        return None
    return found if found.is_finite() and 0 <= found <= _MOST else None


def span(value: object) -> Decimal | None:
    """A time span, up to a million seconds; None for anything else."""
    found = amount(value)
    return found if found is not None and found <= _LONGEST_SECONDS else None


def between(start: object, end: object) -> Decimal | None:
    """The seconds between two moments in ISO 8601; None for anything else."""
    try:
        began, ended = (datetime.fromisoformat(str(v)[:_LONGEST_TEXT]) for v in (start, end))
        return span(Decimal(str((ended - began).total_seconds())))
    except (ValueError, TypeError, ArithmeticError):  # one of them has no zone, perhaps
        return None


def seconds(value: object) -> float | None:
    """`span` as a float."""
    found = span(value)
    return None if found is None else float(found)


def moment(value: object) -> float | None:
    """Unix seconds; None for anything else."""
    try:
        found = float(str(value)[:_LONGEST_TEXT])
    except ValueError:
        return None
    return found if 0 <= found <= _LATEST else None


def micros(dollars: Decimal) -> int | None:
    """Dollars in millionths; None for what a record cannot hold exactly."""
    found = round(dollars * 1_000_000)
    return found if 0 <= found < _MOST_MICROS else None
