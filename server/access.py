"""Who calls, and what he may: keys, their limits a minute, and the models that they are for.

Callers without a key are one where they are all on this machine. Elsewhere they are strangers to
each other: what one has made is seen by whoever has its unguessable id, and listed for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from upscale.errors import AuthenticationFailed, ModelDisabled
from upscale.providers.addresses import is_loopback
from upscale.server.meters import Meter
from upscale.server.proxies import caller_address
from upscale.server.records.keys import TOKEN_START, Key, KeyRing
from upscale.server.threads import asked
from upscale.settings import Settings

_HEADER = "authorization"
_SCHEME = "bearer"


class Access:
    """The keys of one server, and who is served without one."""

    def __init__(self, ring: KeyRing, settings: Settings) -> None:
        self._ring, self._anonymous = ring, settings.allow_anonymous
        self._trusted, self._public = settings.trusted_proxies, not is_loopback(settings.host)
        self._requests = Meter("requests", least=1.0)
        self._megapixels = Meter("megapixels")

    async def admit(self, request: Request) -> None:
        """Let in who may come in, and remember who it is. Raises AuthenticationFailed."""
        request.state.key = key = await self._key(request)
        request.state.address = address = caller_address(request, self._trusted)
        request.state.stranger = key is None and (self._public or not is_loopback(address))

    async def _key(self, request: Request) -> Key | None:
        """The caller's key; None for those who need none. Raises AuthenticationFailed.

        While no key was ever made, nothing is asked, and whatever an SDK sends as a key is ignored.
        """
        scheme, _, token = request.headers.get(_HEADER, "").strip().partition(" ")
        token = token.strip()
        ours = token.startswith(TOKEN_START)
        if self._anonymous and not ours:
            return None
        if not await asked(self._ring.any):
            return None
        key = None
        if scheme.lower() == _SCHEME and token:
            key = await asked(self._ring.find, token)
        if key is None:
            raise AuthenticationFailed
        return key

    def count_request(self, key: Key | None) -> None:
        """One more request of a key. Raises RateLimited."""
        if key is not None:
            self._requests.check(key.id, key.requests_per_minute)
            self._megapixels.check(key.id, key.megapixels_per_minute)
            self._requests.take(key.id, key.requests_per_minute, 1.0)

    def count_pixels(self, key: Key | None, pixels: int) -> None:
        """Pixels of a result that is about to be made. Raises RateLimited."""
        if key is not None:
            self._megapixels.check(key.id, key.megapixels_per_minute)
            self._megapixels.take(key.id, key.megapixels_per_minute, pixels / 1e6)


def check_model(key: Key | None, names: Sequence[str]) -> None:
    """Raise ModelDisabled where the key is for other models than the one that has these names."""
    if not may_use(key, names):
        raise ModelDisabled(f"This key may not use the model '{names[0]}'.")


def may_use(key: Key | None, names: Sequence[str]) -> bool:
    """Whether the key is for the model that has these names."""
    return key is None or not key.models or not set(key.models).isdisjoint(names)


def caller(request: Request) -> Key | None:
    """The key that `request` came with, once it was admitted."""
    key = request.state.key
    assert key is None or isinstance(key, Key)
    return key


def address(request: Request) -> str:
    """Where the caller is, as far as trusted proxies tell; '' where that is not known."""
    return str(request.state.address)


def is_stranger(request: Request) -> bool:
    """Whether others without a key are other people."""
    return bool(request.state.stranger)
