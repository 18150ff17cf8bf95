"""Colour profiles: which one goes with which pixels, and the way from CMYK to sRGB.

Knows the fixed header of an ICC profile; the colour mathematics are LittleCMS's.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageCms

_HEADER = 128
_SPACES = {b"RGB ": "RGB", b"GRAY": "grey", b"CMYK": "CMYK"}


def matching(icc: bytes | None, channels: int) -> tuple[bytes | None, str]:
    """The profile if it describes pixels of so many colour channels, else None and a note."""
    if icc is None:
        return None, ""
    wanted = b"GRAY" if channels == 1 else b"RGB "
    if not _whole(icc):
        return None, "The colour profile is damaged and was dropped; the pixels are taken as sRGB."
    if icc[16:20] != wanted:
        found = _SPACES.get(icc[16:20], icc[16:20].decode("latin-1").strip())
        return None, (
            f"The colour profile is for {found} pixels, the picture is {_SPACES[wanted]}: "
            "the profile was dropped."
        )
    return icc, ""


def cmyk_to_srgb(icc: bytes | None) -> tuple[Callable[[Image.Image], Image.Image], str]:
    """A function from a CMYK image to an sRGB one, and a note that says how it converts."""
    if icc is not None and _whole(icc) and icc[16:20] == b"CMYK":
        try:
            transform = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                ImageCms.createProfile("sRGB"),
                "CMYK",
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
        else:
            return (
                lambda image: _applied(transform, image),
                "CMYK was converted to sRGB through the picture's own colour profile.",
            )
    how = "it has no colour profile" if icc is None else "its colour profile cannot be used"
    return (
        lambda image: image.convert("RGB"),
        f"CMYK was converted to sRGB by the plain formula, as {how}: colours are approximate.",
    )


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None comes only when converting in place
    return converted


def _whole(icc: bytes) -> bool:
    stated = int.from_bytes(icc[:4], "big")
    return len(icc) > _HEADER and icc[36:40] == b"acsp" and _HEADER < stated <= len(icc)
