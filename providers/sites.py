"""The providers' sites as the settings have them: hosts, base URLs, keys. Keys are taken out of the
settings here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from upscale.providers import credentials
from upscale.providers.site import Site, plain_url
from upscale.settings import Settings, host_names

_FAL_FILES = ("fal.media", "*.fal.media", "storage.googleapis.com/falserverless/")
_TOPAZ_FILES = (
    "*.amazonaws.com",
    "*.cloudfront.net",
    "*.topazlabs.com",
    "*.r2.cloudflarestorage.com",
)
_RECRAFT_FILES = ("img.recraft.ai", "*.recraft.ai")
_REPLICATE_FILES = ("replicate.delivery", "*.replicate.delivery")


@dataclass(frozen=True)
class _Place:
    """API hosts with the path that stands for each below a base URL; hosts of files; how the key is
    sent. `tail`: what people leave at the end of a base URL.
    """

    api: Mapping[str, str]
    files: tuple[str, ...]
    header: str
    form: str
    tail: str = ""


_PLACES: Mapping[str, _Place] = {
    "fal": _Place(
        {"queue.fal.run": "/queue", "rest.fal.ai": "/rest", "api.fal.ai": "/api"},
        _FAL_FILES,
        "Authorization",
        "Key {}",
    ),
    "replicate": _Place(
        {"api.replicate.com": ""}, _REPLICATE_FILES, "Authorization", "Bearer {}", "/v1"
    ),
    "topaz": _Place({"api.topazlabs.com": ""}, _TOPAZ_FILES, "X-API-Key", "{}", "/image/v1"),
    "recraft": _Place(
        {"external.api.recraft.ai": ""}, _RECRAFT_FILES, "Authorization", "Bearer {}", "/v1"
    ),
    "vertex": _Place({"aiplatform.googleapis.com": ""}, (), "Authorization", "Bearer {}", "/v1"),
    "lumenfall": _Place(
        {"api.lumenfall.ai": ""},
        (
            "media.lumenfall.ai",
            *_FAL_FILES,
            *_TOPAZ_FILES,
            *_RECRAFT_FILES,
            *_REPLICATE_FILES,
        ),
        "Authorization",
        "Bearer {}",
        "/openai/v1",
    ),
}

Provided = Literal["fal", "replicate", "topaz", "recraft", "vertex", "lumenfall"]


def key_of(provider: str, settings: Settings) -> str:
    """The key of a provider; '' where there is none."""
    keys: dict[str, SecretStr] = {
        "fal": settings.fal_key,
        "replicate": settings.replicate_key,
        "topaz": settings.topaz_key,
        "recraft": settings.recraft_key,
        "vertex": settings.vertex_key,
        "lumenfall": settings.gateway_key,
    }
    secret = keys.get(provider)
    return secret.get_secret_value().strip() if secret is not None else ""


def base_of(provider: str, settings: Settings) -> str:
    """The base URL that stands in for a provider's hosts; '' where there is none."""
    bases = {
        "fal": settings.fal_base_url,
        "replicate": settings.replicate_base_url,
        "topaz": settings.topaz_base_url,
        "recraft": settings.recraft_base_url,
        "vertex": settings.vertex_base_url,
        "lumenfall": settings.gateway_base_url,
    }
    return bases.get(provider, "").strip().rstrip("/")


def site_of(provider: Provided, settings: Settings) -> Site:
    """The site of a provider."""
    place, base = _PLACES[provider], base_of(provider, settings)
    if place.tail and base.endswith(place.tail):
        base = base[: -len(place.tail)]
    hosts = {
        host: f"{base}{path}" if base else f"https://{host}" for host, path in place.api.items()
    }
    if provider == "vertex" and not base:
        region = re.sub(r"[^a-z0-9-]", "", settings.vertex_region.lower())
        hosts = {host: f"https://{region}-{host}" for host in hosts}
    key = key_of(provider, settings)
    return Site(
        provider=provider,
        api=hosts,
        files=frozenset(place.files) | host_names(settings.provider_hosts),
        trusted=(urlsplit(base).hostname or "") if base else "",
        auth={place.header: place.form.format(key)} if key else {},
        secret=key,
        local_only=settings.local_only,
        local_hosts=host_names(settings.local_hosts),
    )


def unusable(provider: str, settings: Settings) -> str | None:
    """Why the settings keep a provider from being used; None where they do not."""
    if provider not in _PLACES:
        return "this version has no adapter for it"
    base = base_of(provider, settings)
    if base and plain_url(base) is None:
        return "its base URL is no http or https URL"
    if settings.local_only:
        host = (urlsplit(base).hostname or "").lower() if base else ""
        if host not in host_names(settings.local_hosts):
            return "this server makes no outgoing connections (UPSCALE_LOCAL_ONLY)"
    if provider == "vertex":
        if not settings.vertex_project or not settings.vertex_region:
            return "UPSCALE_VERTEX_PROJECT and UPSCALE_VERTEX_REGION are not set"
        if key_of(provider, settings):
            return None
        if settings.local_only:
            return "VERTEX_ACCESS_TOKEN is not set; Google is asked for none (UPSCALE_LOCAL_ONLY)"
        return credentials.lacking()
    return None if key_of(provider, settings) else "it has no key"
