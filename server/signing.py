"""Signatures of Standard Webhooks, and the secrets that make them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac

from upscale.errors import InvalidRequest

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64

ADVICE = f"Make one: echo {_PREFIX}$(openssl rand -base64 32)"


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The keys that a setting holds. Raises InvalidRequest, which does not repeat them."""
    return tuple(_secret(each.strip()) for each in text.split(",") if each.strip())


def _secret(text: str) -> bytes:
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        if text.startswith(_PREFIX) and _SHORTEST <= len(key) <= _LONGEST:
            return key
    raise InvalidRequest(
        f"UPSCALE_WEBHOOK_SECRET is not `{_PREFIX}` and {_SHORTEST} to {_LONGEST} bytes in base64. "
        f"{ADVICE}",
        field="webhook_secret",
    )


def signature(secrets: tuple[bytes, ...], event_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret; `timestamp` in seconds."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
