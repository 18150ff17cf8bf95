"""Under which address a caller reaches this server, and from which, behind proxies that say so.

`X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` count only from addresses that the operator
trusts, and only the last value of each: the one that the trusted proxy wrote itself.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from starlette.requests import Request

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{1,5}))?")
# No dot segments: they would lead elsewhere.
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*/?")


@lru_cache(maxsize=8)
def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Comma-separated addresses and CIDRs. Raises ValueError."""
    parts = (part.strip() for part in text.split(","))
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts if part)


def caller_base(request: Request, trusted: str) -> str:
    """Scheme, host and prefix that the caller used, without a slash at the end."""
    base = request.base_url
    if not _is_trusted(_peer(request), trusted):
        return str(base).rstrip("/")
    scheme = _last(request, "x-forwarded-proto").lower()
    host = _last(request, "x-forwarded-host")
    prefix = _last(request, "x-forwarded-prefix")
    if scheme not in ("http", "https"):
        scheme = base.scheme
    named = _HOST.fullmatch(host)
    if named is None or int(named[1] or 0) > 65535:
        host = base.netloc
    if not _PREFIX.fullmatch(prefix):
        prefix = ""
    return f"{scheme}://{host}{prefix.rstrip('/')}{base.path.rstrip('/')}"


def caller_address(request: Request, trusted: str) -> str:
    """The address of the caller: the last of `X-Forwarded-For` that no trusted proxy has; '' where
    none is known.
    """
    address = _peer(request)
    told = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    while told and _is_trusted(address, trusted):
        before = _address(told.pop().strip())
        if before is None:
            break
        address = before
    return "" if address is None else str(address)


def _peer(request: Request) -> IPv4Address | IPv6Address | None:
    return None if request.client is None else _address(request.client.host)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_trusted(address: IPv4Address | IPv6Address | None, trusted: str) -> bool:
    if address is None:
        return False
    return any(address in network for network in networks(trusted))


def _last(request: Request, name: str) -> str:
    values = request.headers.getlist(name)
    return values[-1].rpartition(",")[2].strip() if values else ""
