"""What `upscale image` was asked for, and which of it decides what a result looks like."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from upscale.imaging.limits import FORMATS
from upscale.settings import Settings

# Formats that have a quality.
_LOSSY = {"jpeg", "webp", "avif"}


@dataclass(frozen=True)
class Options:
    """What the caller asked for; `scale` None takes the model's own, `format` None the name's."""

    model: str
    scale: str | None = None
    format: str | None = None
    quality: int | None = None
    background: str = "#ffffff"
    strip_metadata: bool = False
    seed: int = 0
    denoise: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tile: int = 0
    overwrite: bool = False
    again: bool = False
    receipt: bool = False
    dry_run: bool = False


def deciding(
    options: Options,
    *,
    network: dict[str, Any],
    scale: Decimal,
    format: str,
    background: str,
    settings: Settings | None,
) -> dict[str, Any]:
    """All that decides a result besides its source, as plain data; the usual is left out.

    `network` says what upscales; `settings` are this machine's, None where another one works. So
    what one machine began another can go on with.
    """
    facts: dict[str, Any] = {**network, "scale": f"{scale.normalize():f}", "format": format}
    if format in _LOSSY and options.quality is not None:
        facts["quality"] = options.quality
    if not FORMATS[format].alpha and background != "#ffffff":
        facts["background"] = background
    if options.seed:
        facts["seed"] = options.seed
    local: dict[str, Any] = {"strip_metadata": options.strip_metadata}
    if settings is not None:
        local = {
            "strip_metadata": options.strip_metadata or settings.strip_metadata,
            "precision": options.precision if options.precision != "auto" else settings.precision,
            "tile": options.tile or settings.tile,
            "provenance": settings.provenance,
            "tiff_tile": settings.tiff_tile if format == "tiff" else 0,
            "overlap": settings.overlap,
            "exact_context_limit": settings.exact_context_limit,
        }
    usual = {name: Settings.model_fields[name].default for name in local}
    return facts | {name: value for name, value in local.items() if value != usual[name]}
