"""Where a provider is: its API, the hosts of its files, its key; and which URLs of its replies are
believed. Data from settings; connects to nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from upscale import logs
from upscale.providers.addresses import covers

_TEXT_LIMIT = 500
_SHORTEST_SECRET = 6


@dataclass(frozen=True)
class Site:
    """One provider. `api` has, for each of its API hosts, the base URL under which it is reached;
    `files` the hosts of its files, `host/path` for one below a path; `trusted` the host of a base
    URL from the settings; `auth` the header with the key, `secret` the key.
    """

    provider: str
    api: Mapping[str, str]
    files: frozenset[str] = frozenset()
    trusted: str = ""
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)
    local_only: bool = False
    local_hosts: frozenset[str] = frozenset()

    def url(self, host: str, path: str) -> str:
        """The URL of a path of one of its API hosts."""
        return self.api[host].rstrip("/") + path

    def api_url(self, text: object) -> str | None:
        """A URL from a reply as the API URL it means; None for one that is not the API's."""
        url = plain_url(text)
        if url is None:
            return None
        for host, base in self.api.items():
            if host_of(url) == host and url.scheme == "https" and url.port is None:
                return self.url(host, url.raw_path.decode("ascii"))
            if self.is_under(str(url), base):
                return str(url)
        return None

    def is_api(self, url: str) -> bool:
        """Whether a request to `url` may carry the key."""
        return any(self.is_under(url, base) for base in self.api.values())

    @staticmethod
    def is_under(url: str, base: str) -> bool:
        """Whether `url` is `base` or below it."""
        ours, theirs = urlsplit(base), urlsplit(url)
        same = (ours.scheme, ours.netloc.lower()) == (theirs.scheme, theirs.netloc.lower())
        below = theirs.path.startswith(ours.path.rstrip("/") + "/") and ".." not in theirs.path
        return same and below

    def bars_file(self, url: httpx.URL) -> str | None:
        """Why a file may not be fetched from, or put to, `url`; None where it may."""
        host = host_of(url)
        if host == self.trusted:
            return self.bars_host(host)
        if url.scheme != "https":
            return "it is not https"
        if url.port not in (None, 443):
            return "its port is not 443"
        named = frozenset(name for name in self.files if "/" not in name)
        below = [name.split("/", 1) for name in self.files if "/" in name]
        path = url.path
        if not covers(named, host) and not any(
            host == name and path.startswith("/" + prefix) and ".." not in path
            for name, prefix in below
        ):
            return f"the host {host[:100]} is not among the provider's"
        return self.bars_host(host)

    def bars_host(self, host: str) -> str | None:
        """Why no connection to `host` is made; None where one is."""
        if self.local_only and host not in self.local_hosts:
            return "this server makes no outgoing connections (UPSCALE_LOCAL_ONLY)"
        return None

    def is_ours(self, host: str) -> bool:
        """Whether the settings vouch for `host`, whatever its address."""
        return host == self.trusted or host in self.local_hosts

    def scrub(self, text: object) -> str:
        """A provider's words without its key, secrets of URLs and control characters, cut."""
        shown = str(text)
        coded = (b64encode(text.encode()).decode() for text in (self.secret, f"{self.secret}:"))
        for secret in (self.secret, *self.secret.split(":"), *coded):
            if len(secret) >= _SHORTEST_SECRET:
                shown = shown.replace(secret, "***")
        shown = "".join(c if c.isprintable() else " " for c in str(logs.mask("", shown)))
        return shown if len(shown) <= _TEXT_LIMIT else shown[: _TEXT_LIMIT - 1] + "…"


def plain_url(text: object) -> httpx.URL | None:
    """An absolute http or https URL without user info; None for anything else."""
    if not isinstance(text, str) or len(text) > 8192:
        return None
    try:
        url = httpx.URL(text.strip())
        host, port = url.raw_host, url.port
    except (httpx.InvalidURL, UnicodeError, ValueError):
        return None
    good = url.scheme in ("http", "https") and host and not url.userinfo
    return url if good and (port is None or 0 < port < 65536) else None


def bare(url: object) -> str:
    """A URL without its query, which may hold a signature."""
    return str(url).split("?", 1)[0]


def host_of(url: httpx.URL) -> str:
    """Its host, in lower case and without brackets."""
    return url.raw_host.decode("ascii").lower().strip("[]")
