"""Addresses and host names: which are this machine's, which are public, which a list covers. Looks
host names up, connects to nothing. The server's own rules on where it may connect to stand on it.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address

_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
# Retired, yet no less private than what took their place.
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")
# Of their own, so that name servers that hang keep nothing else waiting.
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="resolve")


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host name, as text. Raises OSError."""
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(_THREADS, look_up)
    except UnicodeError as fault:
        raise OSError(f"{host[:80]} is no host name") from fault
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether it is an IP address, which nobody can have for a name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def covers(names: frozenset[str], host: str) -> bool:
    """Whether `host` is among `names`; `*.example.com` stands for all below, `*` for any."""
    return any(
        name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:])) for name in names
    )


def is_public(address: str) -> bool:
    """Whether `address` belongs to the public internet, wrapped IPv4 addresses looked into."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return all(_is_public(each) for each in (ip, *_wrapped(ip)))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    barred = (
        ip.is_private,
        ip.is_loopback,
        ip.is_link_local,
        ip.is_multicast,
        ip.is_reserved and not (ip.version == 6 and ip in _TRANSLATED),
        ip.is_unspecified,
        ip.version == 6 and ip in _SITE_LOCAL,
    )
    return ip.is_global and not any(barred)


def _wrapped(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that packets to an IPv6 address may end at."""
    if isinstance(ip, IPv4Address):
        return []
    wrapped = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _TRANSLATED or ip in _COMPATIBLE:
        wrapped.append(IPv4Address(int(ip) & 0xFFFFFFFF))
    return [each for each in wrapped if each is not None]
