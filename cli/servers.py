"""Which server a batch goes to, from options and environment, and whether it may."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import httpx

from upscale.errors import InvalidParameter, InvalidRequest
from upscale.providers.addresses import is_loopback
from upscale.settings import Settings, host_names

_API = "/openai/v1"
# Of a file with a key in it; more is no key.
_LONGEST_KEY = 4096


@dataclass(frozen=True)
class ServerOptions:
    """A server at the base URL `url`, without the API's path; `key` never shows in any text."""

    url: str
    key: str = field(default="", repr=False)
    in_flight: int = 4

    @property
    def edits(self) -> str:
        """Where pictures are sent to."""
        return f"{self.url}{_API}/images/edits"

    @property
    def host(self) -> str:
        """Its name or address."""
        return httpx.URL(self.url).host

    def model(self, name: str) -> str:
        """Where it says what it knows of a model."""
        return f"{self.url}{_API}/models/{name}"


def server_options(
    url: str, key: str | None, key_file: Path | None, in_flight: int
) -> ServerOptions:
    """The server that was asked for. Raises InvalidParameter."""
    if key_file is not None:
        try:
            with key_file.open("rb") as file:
                key = file.read(_LONGEST_KEY).decode("ascii", "replace")
        except OSError as error:
            allowed = f"a file that can be read ({error.strerror})"
            raise InvalidParameter("--key-file", key_file, allowed) from error
    return ServerOptions(_base(url), _checked(key or ""), in_flight)


def check_allowed(server: ServerOptions, settings: Settings) -> None:
    """Raise InvalidRequest where no picture may leave for that host."""
    if not settings.local_only or is_loopback(server.host):
        return
    if server.host.lower() not in host_names(settings.local_hosts):
        raise InvalidRequest(
            f"UPSCALE_LOCAL_ONLY is set: no picture is sent to {server.host}, which is not among "
            "UPSCALE_LOCAL_HOSTS.",
            field="--server",
        )


def _base(text: str) -> str:
    """`host:8000`, `http://host:8000/` and `http://host:8000/openai/v1` are the same."""
    allowed = "an http or https address such as http://127.0.0.1:8000, without a user's name"
    shown = text.rpartition("@")[2]  # what stands before may be a password
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidParameter("--server", shown, allowed) from None
    odd = "%" in url.host and ":" not in url.host  # what no name of a host can hold
    if url.scheme not in ("http", "https") or not url.host or odd or url.userinfo:
        raise InvalidParameter("--server", shown, allowed)
    path = url.path.rstrip("/")
    for end in ("/images/edits", "/v1", "/openai"):
        path = path.removesuffix(end).rstrip("/")
    return str(url.copy_with(path=path or "/", query=None, fragment=None)).rstrip("/")


def _checked(key: str) -> str:
    key = key.strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidParameter("--key", "(not shown)", "printable ASCII without blanks")
    return key
