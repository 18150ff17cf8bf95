"""All settings, in one place: environment variables `UPSCALE_*`, nothing else reads `os.environ`.

`docs/settings.md` is the same list as a table; a test compares the two.
"""

from __future__ import annotations

import ipaddress
import os
import re
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_serializer, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "upscale"


def _key(variable: str, description: str) -> Any:
    """A secret that is read from `variable` and shown nowhere."""
    return Field(
        SecretStr(""),
        validation_alias=AliasChoices(variable),
        exclude=True,
        repr=False,
        description=description,
    )


class Settings(BaseSettings):
    """Every knob, with its unit in the name or the description."""

    model_config = SettingsConfigDict(
        env_prefix="UPSCALE_", frozen=True, extra="ignore", populate_by_name=True
    )

    host: str = Field("127.0.0.1", description="Address that the server binds to.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the server; 0 takes a free one.")
    allow_anonymous: bool = Field(
        False,
        description="Serve a public address without keys. Off: only loopback starts. Callers "
        "without a key see what they have the id of, and no list of requests.",
    )
    public_url: str = Field(
        "", description="Base URL in media links; empty takes the address that the caller used."
    )
    allowed_hosts: str = Field(
        "",
        description="Host names under which callers may reach the server, comma-separated, besides "
        "addresses, localhost, this machine's name and that of public_url; `*.example.com` takes "
        "all below, `*` any. Empty: none besides on loopback, any on a public address.",
    )
    trusted_proxies: str = Field(
        "127.0.0.1, ::1",
        description="Addresses and CIDRs, comma-separated, of proxies whose X-Forwarded-Proto, "
        "-Host and -Prefix say which address the caller used, and -For which one he has; others' "
        "are ignored.",
    )

    data_dir: Path = Field(
        default_factory=_data_dir,
        description="Folder for media, uploads in flight and measurements (default: the user's "
        "data folder).",
    )
    weights_dir: Path | None = Field(
        None, description="Folder of installed networks; empty: `weights` in the data folder."
    )

    weights_mirror: str = Field(
        "",
        description="Base URL that `upscale weights pull` asks instead of each file's own address; "
        "a folder that `upscale weights export` made, served by any web server.",
    )
    weights_stall_seconds: float = Field(
        30.0, gt=0, description="Time without bytes after which a pull tries again, in seconds."
    )
    max_checkpoint_bytes: int = Field(
        4 << 30,
        ge=1,
        description="Largest checkpoint of a network that is pulled, imported or loaded, in bytes.",
    )
    max_checkpoint_parameters: int = Field(
        2_000_000_000, ge=1, description="Most parameters that a checkpoint of a network may hold."
    )

    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto takes the fastest precision proven safe for network and device."
    )
    tile: int = Field(
        0, ge=0, le=8192, description="Tile side in input pixels; 0 lets the plan choose."
    )
    tile_threads: int = Field(
        0, ge=0, le=64, description="Tile threads on a CPU; 0: one a core, at most 8."
    )
    exact_context_limit: int = Field(
        160,
        ge=0,
        description="Largest context, in input pixels, that is tiled exactly; deeper networks "
        "get an overlap with a measured error.",
    )
    overlap: int = Field(
        0,
        ge=0,
        le=512,
        description="Overlap in input pixels where tiling is not exact; 0: what the seam "
        "self-test of the network found enough (32 to 96).",
    )
    memory_mb: int = Field(
        0,
        ge=0,
        description="Memory in MB that tiles in flight may take on the device; 0: a quarter of "
        "what is free on a CPU, most of it on a card.",
    )

    max_input_pixels: int = Field(
        1 << 26, ge=1, description="Largest picture accepted, in pixels, judged from the header."
    )
    max_output_pixels: int = Field(
        1 << 28, ge=1, description="Largest result, in pixels (16384 x 16384)."
    )
    max_output_side: int = Field(65535, ge=1, description="Longest side of a result, in pixels.")
    max_whole_pixels: int = Field(
        1 << 26,
        ge=1,
        description="Largest result, in pixels, in formats whose encoder wants the whole picture "
        "(WebP, GIF, AVIF).",
    )
    strip_metadata: bool = Field(
        False,
        description="Leave metadata out of every result (EXIF, XMP, texts, dpi); the colour "
        "profile stays, since colours would change without it.",
    )
    provenance: bool = Field(
        False,
        description="Note in every result (XMP; a comment in GIF) the model, the network's hash "
        "and the scale.",
    )
    tiff_tile: int = Field(
        0,
        ge=0,
        le=4096,
        multiple_of=16,
        description="Side in pixels of the tiles of TIFF results; 0 writes strips.",
    )
    max_body_bytes: int = Field(
        256 << 20, ge=1024, description="Largest request body or fetched picture, in bytes."
    )
    max_spool_bytes: int = Field(
        16 << 30,
        ge=1024,
        description="What the requests at work may hold on the disk of the data folder (uploads "
        "and results in the making), in bytes, for a server process; half of it at most in "
        "pictures of background jobs that wait.",
    )
    min_free_bytes: int = Field(
        256 << 20,
        ge=0,
        description="Bytes of that disk that stay free: what would need them is refused before "
        "work.",
    )

    price_per_image: Decimal = Field(
        Decimal(0), ge=0, description="Price of a local result, in USD; `cost` in replies."
    )
    price_per_megapixel: Decimal = Field(
        Decimal(0),
        ge=0,
        description="Price of a million pixels of a local result, in USD; added to the price per "
        "image.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of web pages that may call the server from a browser, "
        "comma-separated; `*` for all.",
    )

    upload_idle_seconds: float = Field(
        60.0,
        gt=0,
        description="How long an upload may stand still before it is refused, in seconds.",
    )

    foreground_seconds: float = Field(
        3600.0,
        gt=0,
        description="How long callers are taken to wait for a reply, in seconds, where their "
        "client does not say; what takes longer is refused, with the way to do it in the "
        "background.",
    )
    background_limit: int = Field(
        1000,
        ge=1,
        description="Background jobs of one caller that may wait before a 429 is answered; all "
        "together may be a third more.",
    )
    queue_limit: int = Field(
        16,
        ge=1,
        description="Jobs of one caller that may wait for a device before a 429 is answered; all "
        "together may be a third more.",
    )
    pixel_workers: int = Field(
        1, ge=1, le=16, description="Torch-free processes that probe and check pictures."
    )
    decode_timeout_seconds: float = Field(
        60.0,
        gt=0,
        description="Time for decoding a picture in a worker, in seconds; one that takes longer is "
        "refused, and the worker replaced.",
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="Time that running Jobs get to finish at shutdown, in seconds."
    )

    media_ttl_seconds: int = Field(3600, ge=1, description="Life time of media links, in seconds.")
    background_ttl_seconds: int = Field(
        604_800,
        ge=0,
        description="Life time of links to results of background jobs, in seconds (7 days), if "
        "that is more; they end with the record, and give way within the quota, before that.",
    )
    media_quota_bytes: int = Field(
        20 << 30,
        ge=0,
        description="Bytes that results behind links may take together; the oldest give way to "
        "new ones. 0: no limit.",
    )
    s3_bucket: str = Field(
        "",
        description="Bucket for results instead of the data folder (needs the extra `s3`); "
        "credentials are found as AWS's tools find theirs.",
    )
    s3_prefix: str = Field("upscale/", description="Begins the keys of results in the bucket.")
    s3_endpoint: str = Field("", description="URL of the S3-compatible service; empty: AWS's own.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    fetch_timeout_seconds: float = Field(
        30.0, gt=0, description="Time for fetching an image URL, in seconds."
    )
    fetch_hosts: str = Field(
        "",
        description="The only hosts that image URLs may name, comma-separated, besides those of "
        "local_hosts; `*.example.com` takes all below. Empty: any with public addresses.",
    )
    local_only: bool = Field(
        False, description="No outgoing connection at all, except to the hosts of local_hosts."
    )
    local_hosts: str = Field(
        "",
        description="Hosts of the house, comma-separated, that URLs may name although their "
        "addresses are private.",
    )

    database_url: str = Field(
        "",
        description="Database of keys and records: `sqlite:////folder/records.db`, or "
        "`postgresql+psycopg://user@host/name` (needs the extra `postgres`). Empty: `records.db` "
        "in the data folder.",
    )
    records_days: int = Field(
        90,
        ge=0,
        description="Days after which the record of a request is deleted; 0 keeps them for ever.",
    )

    webhook_url: str = Field(
        "",
        description="URL that is told how each background job ends, by a signed POST; its address "
        "must be public, or its host be in local_hosts. Empty: nobody is told.",
    )
    webhook_secret: str = Field(
        "",
        repr=False,
        description="Secret that signs what is told: `whsec_` and 24 to 64 bytes in base64; while "
        "it is being changed several, comma-separated.",
    )
    webhook_retry_seconds: float = Field(
        5.0,
        gt=0,
        description="Time before what could not be told is told again, in seconds; it grows from "
        "try to try, ten in all, to 5760 times as long (5 s: 23 hours from first to last).",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people (text) or for machines (json)."
    )

    fal_base_url: str = Field(
        "",
        description="Base URL in place of fal.ai's hosts: `/queue`, `/rest` and `/api` below it "
        "stand for queue.fal.run, rest.fal.ai and api.fal.ai; its host is trusted for files too.",
    )
    replicate_base_url: str = Field(
        "",
        description="Base URL in place of https://api.replicate.com; its host is trusted for "
        "files too.",
    )
    topaz_base_url: str = Field(
        "",
        description="Base URL in place of https://api.topazlabs.com; its host is trusted for files "
        "too.",
    )
    recraft_base_url: str = Field(
        "",
        description="Base URL in place of https://external.api.recraft.ai; its host is trusted for "
        "files.",
    )
    vertex_base_url: str = Field(
        "", description="Base URL in place of https://REGION-aiplatform.googleapis.com."
    )
    gateway_base_url: str = Field(
        "",
        description="Base URL in place of https://api.lumenfall.ai; its host is trusted for files.",
    )
    fal_key: SecretStr = _key("FAL_KEY", "Key of fal.ai; enables its routes.")
    replicate_key: SecretStr = _key(
        "REPLICATE_API_TOKEN", "Token of Replicate; enables its routes."
    )
    topaz_key: SecretStr = _key("TOPAZ_API_KEY", "Key of Topaz Labs; enables its routes.")
    recraft_key: SecretStr = _key("RECRAFT_API_TOKEN", "Token of Recraft; enables its routes.")
    vertex_key: SecretStr = _key(
        "VERTEX_ACCESS_TOKEN",
        "OAuth token for Google Vertex AI, instead of Google's application credentials (which need "
        "the extra `vertex`).",
    )
    gateway_key: SecretStr = _key(
        "LUMENFALL_API_KEY", "Key of the hosted gateway; enables its routes and passing through."
    )
    vertex_project: str = Field(
        "", description="Google Cloud project of Vertex AI; empty: its routes are off."
    )
    vertex_region: str = Field(
        "", description="Region of Vertex AI, as `us-central1`; empty: its routes are off."
    )
    vertex_model: str = Field(
        "", description="Model of Vertex AI that upscales; empty: the catalogue's."
    )
    vertex_watermark: bool = Field(
        False, description="Ask Vertex AI for its invisible watermark in the pixels."
    )
    vertex_price_per_image: Decimal | None = Field(
        None, ge=0, description="Price of an upscale by Vertex AI, in USD; empty: unknown."
    )
    topaz_price_per_credit: Decimal | None = Field(
        None, ge=0, description="Price of a credit of Topaz Labs, in USD; empty: unknown."
    )
    replicate_versions: str = Field(
        "",
        description="Versions of Replicate's models, as `owner/name:64 hex digits`, "
        "comma-separated; others run in their latest version.",
    )
    provider_hosts: str = Field(
        "",
        description="Hosts, comma-separated, from which results of remote providers may be "
        "downloaded besides those that they document; `*.example.com` takes all below.",
    )
    passthrough_base_url: str = Field(
        "",
        description="Base URL of an OpenAI-compatible server of the house, as http://host:8001/v1, "
        "to which image requests for models that nobody here knows are forwarded; empty: to the "
        "hosted gateway, where its key is given.",
    )
    passthrough_key: SecretStr = _key(
        "UPSCALE_PASSTHROUGH_KEY", "Key of that server; empty: none is sent."
    )
    passthrough_mirror: bool = Field(
        False,
        description="Keep the pictures of forwarded replies behind links of this server, instead "
        "of leading callers elsewhere.",
    )
    provider_seconds: float = Field(
        600.0, gt=0, description="Time for a job at a remote provider, in seconds."
    )
    provider_limit: int = Field(
        32,
        ge=1,
        description="Requests that may wait for remote providers at once before a 429 is answered.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in filter(None, (part.strip() for part in text.split(","))):
            ipaddress.ip_network(part, strict=False)
        return text

    @field_serializer("database_url")
    def _without_password(self, url: str) -> str:
        hidden = re.sub(r"(://[^/@:]*:).*@", r"\1***@", url)
        return re.sub(r"(password=)[^&]*", r"\1***", hidden)

    @field_serializer("webhook_secret")
    def _hidden(self, secret: str) -> str:
        return "***" if secret else ""

    @field_serializer("webhook_url")
    def _without_path(self, url: str) -> str:
        begin, slashes, rest = url.partition("://")
        host = re.split(r"[/?#]", rest, maxsplit=1)[0]
        path = rest[len(host) :]
        shown = path if path in ("", "/") else "/***"
        return begin + slashes + host.rpartition("@")[2] + shown if slashes else "***" * bool(url)

    @property
    def weights_folder(self) -> Path:
        """Where installed networks lie."""
        return self.weights_dir or self.data_dir / "weights"

    @property
    def cache_folder(self) -> Path:
        """Where measurements of networks are kept; safe to delete."""
        return self.data_dir / "cache"


def host_names(text: str) -> frozenset[str]:
    """Comma-separated hosts, as local_hosts has them, in lower case and without brackets."""
    hosts = (host.strip().lower().strip("[]") for host in text.split(","))
    return frozenset(host for host in hosts if host)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
