"""Files that Pillow opens: WebP, GIF, BMP and AVIF, and what else the other readers refuse.

One plugin a format is asked, never all of them, so that a file is what its first bytes say. Knows
the modes of Pillow; what is done with the pixels is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import warnings
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)
from PIL.ImageFile import ImageFile

from upscale.imaging.gif_header import count_frames
from upscale.imaging.header import Header, Space, sides
from upscale.imaging.metadata import COMMENT, Metadata, Text, stated_orientation
from upscale.imaging.probe import Probe

# Pillow's own ceiling is on what a header states, with fixed numbers, and is raised while opening.
# Ours (`imaging.limits`) are settings and are judged on the Probe, so Pillow's is taken away.
Image.MAX_IMAGE_PIXELS = None
# Odd EXIF, odd tags: Pillow warns and goes on, and so do we. What it logs it raises as well.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# Its libtiff would write to standard error what Pillow then raises. The symbols are those of the
# libraries that Pillow's own is linked to; where it is built otherwise, the messages stay.
with contextlib.suppress(OSError, AttributeError):
    _linked = ctypes.CDLL(_imaging.__file__)
    _linked.TIFFSetErrorHandler(None)
    _linked.TIFFSetWarningHandler(None)

_PLUGINS: dict[str, type[ImageFile]] = {
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
}


class _Mode(NamedTuple):
    channels: int
    alpha: bool = False
    depth: int = 8
    space: Space = "rgb"
    read_as: str | None = None  # the mode to convert to first


_MODES = {
    "1": _Mode(1, read_as="L"),
    "L": _Mode(1),
    "LA": _Mode(1, alpha=True),
    "La": _Mode(1, alpha=True, read_as="LA"),
    "P": _Mode(3, read_as="RGB"),
    "PA": _Mode(3, alpha=True, read_as="RGBA"),
    "RGB": _Mode(3),
    "RGBX": _Mode(3, read_as="RGB"),
    "RGBA": _Mode(3, alpha=True),
    "RGBa": _Mode(3, alpha=True, read_as="RGBA"),
    "YCbCr": _Mode(3, read_as="RGB"),
    "CMYK": _Mode(3, space="cmyk"),
    "LAB": _Mode(3, space="lab"),
    "I;16": _Mode(1, depth=16),
    "I;16L": _Mode(1, depth=16),
    "I;16B": _Mode(1, depth=16),
    "I": _Mode(1, depth=16),
    "F": _Mode(1, depth=16),
}


def open_image(found: str, file: BinaryIO) -> ImageFile:
    """A file of kind `found`, opened but not loaded. Raises whatever Pillow raises."""
    return _PLUGINS[found](file)


def read_pillow_header(found: str, file: BinaryIO, size: int) -> Header:
    """The header of a file of `size` bytes. Raises ValueError, and whatever Pillow raises."""
    counted = 0
    if found == "gif":  # before Pillow, which would pass over any number of blocks
        counted = count_frames(file)
        file.seek(0)
    image = open_image(found, file)
    mode = _mode(image)
    if min(image.size) < 1:
        raise ValueError(f"its size is {image.size[0]} x {image.size[1]}")
    metadata = _metadata(image)
    turned = _orientation(image, metadata)
    return Header(
        Probe(
            format=found,
            **sides(*image.size, turned),
            channels=mode.channels,
            alpha=mode.alpha,
            depth=mode.depth,
            orientation=turned,
            frames=counted or _frames(image),
            icc=metadata.icc is not None,
            bytes=size,
        ),
        metadata,
        space=mode.space,
        reader="pillow",
    )


def read_pixels(found: str, file: BinaryIO) -> npt.NDArray[np.generic]:
    """The first picture, [H, W, C]: uint8, uint16, int32 or float32, as its Header says.

    LAB comes out as sRGB. Raises whatever Pillow raises.
    """
    opened = open_image(found, file)
    size = file.seek(0, 2)
    if any(tile.offset > size for tile in opened.tile):  # for which Pillow blames the memory
        raise ValueError("its pixel data are said to lie behind its end")
    image: Image.Image = opened
    mode = _mode(image)
    image.load()
    if mode.read_as:
        image = image.convert("RGBA" if mode.alpha else mode.read_as)
    if mode.space == "lab":
        image = _from_lab(image)
    if found == "bmp" and mode.alpha and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)  # programs that fill the fourth byte with nothing mean no opacity
    pixels = np.asarray(image)
    if pixels.dtype.byteorder == ">":
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    bits = _bits(image)
    if pixels.dtype == np.uint16 and bits < 16:  # Pillow leaves them at the low end
        pixels = (pixels.astype(np.uint32) * 65535 // ((1 << bits) - 1)).astype(np.uint16)
    return pixels.reshape(image.height, image.width, -1)


def _mode(image: Image.Image) -> _Mode:
    mode = _MODES.get(image.mode)
    if mode is None:
        raise ValueError(f"its pixels are of a kind ({image.mode}) that is not read")
    if "transparency" in image.info and image.mode in ("P", "L", "RGB", "1"):
        colours = "RGBA" if image.mode in ("P", "RGB") else "LA"
        return mode._replace(alpha=True, read_as=colours)
    return mode


def _bits(image: Image.Image) -> int:
    """Bits a channel that a TIFF states; 16 for others."""
    found = image.tag_v2.get(258, (16,)) if isinstance(image, TiffImagePlugin.TiffImageFile) else ()
    return max(found, default=16)


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # None comes only when converting in place
    return converted


def _metadata(image: Image.Image) -> Metadata:
    info = image.info
    comment = _bytes(info.get("comment"))
    return Metadata(
        icc=_bytes(info.get("icc_profile")),
        exif=_bytes(info.get("exif")),
        xmp=_bytes(info.get("xmp")),
        dpi=_density(info.get("dpi")),
        text=(Text(COMMENT, comment.decode("utf-8", "replace")),) if comment else (),
    )


def _bytes(value: object) -> bytes | None:
    if isinstance(value, str):
        value = value.encode()
    return value if isinstance(value, bytes) and value else None


def _density(value: object) -> tuple[float, float] | None:
    try:
        across, down = (float(part) for part in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 0 and down > 0 else None


def _orientation(image: ImageFile, metadata: Metadata) -> int:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found = image.tag_v2.get(0x0112, 1)
        return found if isinstance(found, int) and 1 <= found <= 8 else 1
    if isinstance(image, AvifImagePlugin.AvifImageFile):  # XMP does not count there
        return stated_orientation(metadata.exif, None)
    return stated_orientation(metadata.exif, metadata.xmp)


def _frames(image: ImageFile) -> int:
    try:
        return max(1, int(getattr(image, "n_frames", 1)))
    except Exception:  # a fault in a later picture; the first one may be fine
        return 1
