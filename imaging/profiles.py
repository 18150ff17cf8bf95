"""Colour profiles: which one describes which pixels, and the way from any to sRGB.

Knows the fixed header of an ICC profile; the colour mathematics are LittleCMS's, asked through
libvips, which works on 8 and 16 bits and row by row. Images here are libvips images, lazily
computed: nothing is converted before rows are fetched.
"""

from __future__ import annotations

import io

from PIL import ImageCms

from upscale.imaging import vips
from upscale.imaging.encoding import Encoding, matrix_to_srgb

_HEADER = 128
_SPACES = {b"RGB ": "RGB", b"GRAY": "grey", b"CMYK": "CMYK", b"Lab ": "Lab"}
# Classes that describe pixels; the others (links, abstract ones, named colours) do not.
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")


def matching(icc: bytes | None, channels: int) -> tuple[bytes | None, str]:
    """The profile if it describes pixels of so many colour channels, else None and a note."""
    if icc is None:
        return None, ""
    wanted = b"GRAY" if channels == 1 else b"RGB "
    if not whole(icc):
        return None, "The colour profile is damaged and was dropped; the pixels are taken as sRGB."
    if icc[16:20] != wanted:
        found = _SPACES.get(icc[16:20], icc[16:20].decode("latin-1").strip())
        return None, (
            f"The colour profile is for {found} pixels, the picture is {_SPACES[wanted]}: "
            "the profile was dropped."
        )
    if icc[12:16] not in _CLASSES or not opens(icc, "L" if channels == 1 else "RGB"):
        return None, (
            "The colour profile is of a kind that cannot be used and was dropped; the pixels are "
            "taken as sRGB."
        )
    return icc, ""


def whole(icc: bytes) -> bool:
    """Whether the block is as long as it says, and has the mark of a profile."""
    stated = int.from_bytes(icc[:4], "big")
    return len(icc) > _HEADER and icc[36:40] == b"acsp" and _HEADER < stated <= len(icc)


def is_for(icc: bytes | None, space: bytes) -> bool:
    """Whether a profile is whole and for pixels of `space`, as in b"RGB "."""
    return icc is not None and whole(icc) and icc[16:20] == space


def to_srgb(image: vips.Image, icc: bytes | None) -> vips.Image:
    """Colours through the profile `icc` to sRGB of the same depth, alpha untouched.

    None: the profile that libvips keeps for CMYK. Relative colorimetric with black point
    compensation. A grey image stays grey.
    """
    deep = image.format == "ushort"
    grey = image.bands <= 2
    image = image.copy()
    if icc is not None:
        image.set_type(vips.BLOB, "icc-profile-data", icc)
    converted = image.icc_transform(
        "srgb",
        intent="relative",
        black_point_compensation=True,
        depth=16 if deep else 8,
        embedded=icc is not None,
        input_profile="cmyk" if icc is None else "none",
    )
    return one_channel(converted, alpha=image.bands == 2) if grey else converted


def lab_to_srgb(image: vips.Image, *, deep: bool) -> vips.Image:
    """CIE L*a*b* by D50, as files have it, to sRGB of 8 or 16 bits."""
    lab = image if image.interpretation == "lab" else image.colourspace("lab")
    return lab.icc_export(output_profile="srgb", pcs="lab", depth=16 if deep else 8)


def one_channel(image: vips.Image, *, alpha: bool) -> vips.Image:
    """Grey from an image whose red, green and blue are alike."""
    grey = image[1].bandjoin(image[image.bands - 1]) if alpha else image[1]
    return grey.copy(interpretation="grey16" if image.format == "ushort" else "b-w")


def three_channels(image: vips.Image, *, alpha: bool) -> vips.Image:
    """Red, green and blue that are alike, from grey."""
    colour = image[0].bandjoin([image[0], image[0]])
    colour = colour.bandjoin(image[1]) if alpha else colour
    return colour.copy(interpretation="rgb16" if image.format == "ushort" else "srgb")


def decoded(image: vips.Image, encoding: Encoding, *, alpha: bool) -> vips.Image:
    """Colours that a PNG codes by gAMA and cHRM as sRGB of the same depth, alpha untouched.

    PNG, third edition, 11.3.2; the white is adapted by Bradford's matrix, as in ICC.1 annex E.
    """
    top = 65535.0 if image.format == "ushort" else 255.0
    colours = image.bands - alpha
    colour = image[:colours] / top
    linear = _linear(colour) if encoding.gamma is None else colour ** (1e5 / encoding.gamma)
    if encoding.primaries is not None and colours == 3:
        linear = linear.recomb(vips.matrix(matrix_to_srgb(encoding.primaries)))
    coded = (_coded(linear) * top + 0.5).floor().cast(image.format)
    joined = coded.bandjoin(image[colours]) if alpha else coded
    return joined.copy(interpretation=image.interpretation)


def _linear(coded: vips.Image) -> vips.Image:
    """Light from sRGB's code, IEC 61966-2-1."""
    low = coded / 12.92
    high = ((coded + 0.055) / 1.055) ** 2.4
    return (coded <= 0.04045).ifthenelse(low, high)


def _coded(linear: vips.Image) -> vips.Image:
    """sRGB's code of light, both 0..1; what lies outside is cut off."""
    inside = (linear < 0).ifthenelse(0.0, (linear > 1).ifthenelse(1.0, linear))
    low = inside * 12.92
    high = (inside ** (1 / 2.4)) * 1.055 - 0.055
    return (inside <= 0.0031308).ifthenelse(low, high)


def opens(icc: bytes, mode: str) -> bool:
    """Whether LittleCMS makes anything of the profile for pixels of a mode of Pillow."""
    try:
        ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    return True
