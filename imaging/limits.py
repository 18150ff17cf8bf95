"""The limits on pictures, judged from numbers in a header or a Plan, before any work.

Knows which formats are written here and what their files can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from upscale.errors import InvalidParameter, TooLarge
from upscale.imaging.kinds import NAMES
from upscale.imaging.probe import Probe


@dataclass(frozen=True)
class Format:
    """What a file of an output format can hold.

    `whole_bytes`: what an encoder that wants the whole picture takes in memory, bytes a pixel; 0:
    it takes bands. `max_side` is in pixels.
    `profiles` are the colour channels that a profile may be for: 1 grey, 3 RGB.
    """

    mime: str
    extension: str
    whole_bytes: int
    alpha: bool
    depth16: bool
    max_side: int
    profiles: tuple[int, ...]


FORMATS: dict[str, Format] = {
    "png": Format("image/png", ".png", 0, True, True, (1 << 31) - 1, (1, 3)),
    # The file could hold 65535, libjpeg writes and reads no more than this.
    "jpeg": Format("image/jpeg", ".jpg", 0, False, False, 65500, (1, 3)),
    "webp": Format("image/webp", ".webp", 16, True, False, 16383, (3,)),
    "gif": Format("image/gif", ".gif", 16, True, False, 65535, ()),
    # Decoders refuse more than this, whatever the file could hold.
    "avif": Format("image/avif", ".avif", 36, True, True, 16384, (3,)),
    "tiff": Format("image/tiff", ".tif", 0, True, True, (1 << 31) - 1, (1, 3)),
}

_ALIASES = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff"}


def normalise_format(name: str) -> str:
    """`jpg`, `.JPEG`, `image/jpeg` and so on as a key of FORMATS; raises InvalidParameter."""
    key = name.strip().lower().removeprefix("image/").removeprefix(".")
    key = _ALIASES.get(key, key)
    if key not in FORMATS:
        raise InvalidParameter("output_format", name, ", ".join(FORMATS))
    return key


def normalise_colour(text: str, field: str) -> str:
    """A colour as CSS writes it (#fff, #00ff00, white) as #rrggbb; raises InvalidParameter."""
    from PIL import ImageColor  # late: seldom needed, and slow to load

    try:
        red, green, blue, *opacity = ImageColor.getrgb(text.strip())
        if max(red, green, blue) > 255 or opacity not in ([], [255]):
            raise ValueError("too much of a colour, or too little")
    except ValueError:
        raise InvalidParameter(field, text, "an opaque colour such as white or #ffcc00") from None
    return f"#{red:02x}{green:02x}{blue:02x}"


def check_input(probe: Probe, max_pixels: int) -> None:
    """Raise TooLarge if the picture has more than `max_pixels` pixels."""
    if probe.pixels > max_pixels:
        raise TooLarge(
            f"The image ({probe.width} x {probe.height})",
            got=probe.pixels,
            limit=max_pixels,
            unit="pixels",
            advice="Send a smaller one, or raise UPSCALE_MAX_INPUT_PIXELS on the server.",
        )


def check_output(
    format: str,
    width: int,
    height: int,
    *,
    max_pixels: int,
    max_side: int,
    max_whole_pixels: int,
) -> None:
    """Raise TooLarge if a result of `width` x `height` pixels cannot be written as `format`.

    The limits count pixels, whatever their depth.
    """
    facts, name = FORMATS[format], NAMES[format]
    pixels, side = width * height, max(width, height)
    size = f"({width} x {height})"
    if pixels > max_pixels:
        _refuse(f"The result {size}", pixels, max_pixels, _SMALLER)
    if side > max_side:
        _refuse(f"The longest side of the result {size}", side, max_side, _SMALLER)
    if side > facts.max_side:
        _refuse(f"The longest side of the {name} {size}", side, facts.max_side, _way_out())
    if facts.whole_bytes and pixels > max_whole_pixels:
        _refuse(f"The {name} {size}", pixels, max_whole_pixels, _way_out())


_SMALLER = "Ask for a smaller scale_factor."


def _way_out() -> str:
    banded = " or ".join(f"'{name}'" for name, facts in FORMATS.items() if not facts.whole_bytes)
    return f"Ask for output_format {banded}, which is written in bands, or a smaller scale_factor."


def _refuse(what: str, got: int, limit: int, advice: str) -> None:
    field = "output_format" if "output_format" in advice else "scale_factor"
    raise TooLarge(what, got=got, limit=limit, unit="pixels", advice=advice, field=field)
