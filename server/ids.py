"""Names that nobody can guess: request ids (KSUIDs, sortable by time) and names of media links."""

from __future__ import annotations

import secrets
import time

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_EPOCH = 1_400_000_000
_LAST = (1 << 32) - 1
_LENGTH = 27


def request_id() -> str:
    """`req_` and a KSUID: 27 base-62 digits of 4 bytes of time and 16 random bytes."""
    # A clock that is not set yet, or not any more, costs the order of ids and nothing else.
    seconds = min(max(0, int(time.time()) - _EPOCH), _LAST)
    stamp = seconds.to_bytes(4, "big")
    return "req_" + _base62(stamp + secrets.token_bytes(16))


def random_token() -> str:
    """27 base-62 digits, 160 random bits."""
    return _base62(secrets.token_bytes(20))


def _base62(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
