"""Under which names callers may reach this server.

A web page can have its own name resolve to this machine (DNS rebinding) and then read what the
server answers as if it were its own. So a server that asks nobody who he is answers only to names
that cannot be such a page's.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from upscale.errors import InvalidRequest
from upscale.providers.addresses import covers, is_address, is_loopback
from upscale.server.errors import error_reply
from upscale.settings import Settings, host_names


class Hosts:
    """Refuses requests whose Host is a name that is not among `names`."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and not self._is_ours(Request(scope)):
            error = InvalidRequest(
                "This server does not answer to the host name of this request. Ask 127.0.0.1 or "
                "localhost, or name the host in UPSCALE_ALLOWED_HOSTS on the server."
            )
            await error_reply(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_ours(self, request: Request) -> bool:
        host = request.url.hostname or ""
        if not request.headers.get("host"):
            return True  # HTTP/1.0, which no browser speaks
        return is_address(host) or host.endswith(".localhost") or covers(self._names, host)


def own_names(settings: Settings) -> frozenset[str]:
    """The names that the settings give the server; `*` where any will do."""
    named = host_names(settings.allowed_hosts)
    if not named and not is_loopback(settings.host):
        return frozenset({"*"})
    machine = socket.gethostname().lower()  # its full name would be asked of another machine
    public = urlsplit(settings.public_url).hostname or machine
    return named | {"localhost", machine, f"{machine}.local", public}
