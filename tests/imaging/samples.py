"""Small valid files of every format that is read, of the kinds that take different ways.

Made by Pillow, libvips and tifffile, never by our own encoders.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyvips
import tifffile
from PIL import Image, ImageCms

from tests.imaging.conftest import exif_bytes, make_png
from upscale.imaging.picture import Pixels

_HEIGHT, _WIDTH = 19, 26


def samples(format: str) -> dict[str, bytes]:
    """Files of a key of `imaging.kinds.NAMES`, by what is special about them."""
    return _MAKERS[format]()


def scene(channels: int, depth: int = 8) -> Pixels:
    """A gradient with some noise [H, W, C]: it compresses, but not to nothing."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    waves = [x / _WIDTH, y / _HEIGHT, (x + y) / (_WIDTH + _HEIGHT), (x * y % 7) / 7]
    values = np.stack(waves[:channels], -1)
    values = values * 0.9 + np.random.default_rng(0).random(values.shape) * 0.1
    top = (1 << depth) - 1
    return (values * top).astype(np.uint16 if depth == 16 else np.uint8)


def _image(mode: str = "RGB") -> Image.Image:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    return Image.fromarray(scene(channels).squeeze(), mode)


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _frames() -> list[Image.Image]:
    return [Image.fromarray(np.roll(scene(3), 5 * n, 1)) for n in range(1, 4)]


def _png() -> dict[str, bytes]:
    palette = _image().quantize(32)
    transparent = dict.fromkeys(range(4), 128)
    return {
        "rgb": _saved(_image(), "png", icc_profile=_profile(), exif=exif_bytes(6), dpi=(72, 72)),
        "rgba": _saved(_image("RGBA"), "png"),
        "grey": _saved(_image("L"), "png"),
        "grey and alpha": _saved(_image("LA"), "png"),
        "one bit": _saved(_image("L").convert("1"), "png"),
        "palette": _saved(palette, "png"),
        "palette with alpha": _saved(
            palette, "png", transparency=bytes(transparent.get(n, 255) for n in range(32))
        ),
        "16 bit": make_png(scene(3, 16), 2, (b"gAMA", (100000).to_bytes(4, "big"))),
        "16 bit with alpha": make_png(scene(4, 16), 6),
        "interlaced": bytes(pyvips.Image.new_from_array(scene(3)).pngsave_buffer(interlace=True)),
        "animated": _saved(_image(), "png", save_all=True, append_images=_frames()),
    }


def _jpeg() -> dict[str, bytes]:
    exif = exif_bytes(3, thumbnail=_saved(_image("L"), "jpeg"))
    return {
        "baseline": _saved(_image(), "jpeg", icc_profile=_profile(), exif=exif),
        "no subsampling": _saved(_image(), "jpeg", quality=95, subsampling=0),
        "progressive": _saved(_image(), "jpeg", progressive=True),
        "grey": _saved(_image("L"), "jpeg", comment=b"a comment"),
        "cmyk": _saved(_image("CMYK"), "jpeg"),
        "restarts": _saved(_image(), "jpeg", restart_marker_blocks=1),
    }


def _webp() -> dict[str, bytes]:
    return {
        "lossy": _saved(_image(), "webp", exif=exif_bytes(8), icc_profile=_profile()),
        "lossy with alpha": _saved(_image("RGBA"), "webp"),
        "lossless": _saved(_image(), "webp", lossless=True),
        "animated": _saved(_image(), "webp", save_all=True, append_images=_frames()),
    }


def _gif() -> dict[str, bytes]:
    still = _image().quantize(16)
    return {
        "still": _saved(still, "gif"),
        "transparent": _saved(still, "gif", transparency=3, comment=b"a comment"),
        "animated": _saved(_image(), "gif", save_all=True, append_images=_frames()),
    }


def _tiff() -> dict[str, bytes]:
    plain: dict[str, tuple[Pixels, dict[str, object]]] = {
        "strips": (scene(3), {"rowsperstrip": 4}),
        "tiles": (scene(3), {"tile": (16, 16), "compression": "deflate"}),
        "deflate": (scene(3), {"compression": "deflate", "predictor": True}),
        "16 bit": (scene(3, 16), {"compression": "deflate"}),
        "alpha": (scene(4), {"extrasamples": ["unassalpha"]}),
        "planes": (np.moveaxis(scene(3), -1, 0), {"planarconfig": "separate"}),
        "tiled planes": (
            np.moveaxis(scene(3), -1, 0),
            {"planarconfig": "separate", "tile": (16, 16)},
        ),
        "float": (scene(3).astype(np.float32) / 255, {}),
        "grey": (scene(1).squeeze(), {}),
        "bigtiff": (scene(3), {"bigtiff": True}),
        "big endian": (scene(3), {"byteorder": ">"}),
    }
    found = {name: _by_tifffile(pixels, options) for name, (pixels, options) in plain.items()}
    for name, mode in (("lzw", "tiff_lzw"), ("packbits", "packbits"), ("jpeg", "jpeg")):
        found[name] = _saved(_image(), "tiff", compression=mode, exif=_oriented())
    found["cmyk"] = _saved(_image("CMYK"), "tiff", icc_profile=_profile())
    found["palette"] = _saved(_image().quantize(32), "tiff")
    found["fax"] = _saved(_image("L").convert("1"), "tiff", compression="group4")
    found["pages"] = _saved(_image(), "tiff", save_all=True, append_images=_frames())
    return found


def _oriented() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A camera"
    return exif


def _by_tifffile(pixels: Pixels, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    photometric = "minisblack" if pixels.ndim == 2 else "rgb"
    settings = {"photometric": photometric, "metadata": None, **options}
    big = {key: settings.pop(key) for key in ("bigtiff", "byteorder") if key in settings}
    with tifffile.TiffWriter(file, **big) as writer:
        writer.write(pixels, **settings)
    return file.getvalue()


def _bmp() -> dict[str, bytes]:
    return {
        "rgb": _saved(_image(), "bmp"),
        "palette": _saved(_image().quantize(32), "bmp"),
        "grey": _saved(_image("L"), "bmp"),
        "one bit": _saved(_image("L").convert("1"), "bmp"),
        "rgba": _saved(_image("RGBA"), "bmp"),
    }


def _avif() -> dict[str, bytes]:
    deep = pyvips.Image.new_from_array(scene(3, 16)).copy(interpretation="rgb16")
    return {
        "8 bit": _saved(_image(), "avif", quality=60, speed=10, exif=exif_bytes(6)),
        "alpha": _saved(_image("RGBA"), "avif", quality=60, speed=10),
        "10 bit": bytes(deep.heifsave_buffer(compression="av1", bitdepth=10, effort=0)),
        "animated": _saved(_image(), "avif", save_all=True, append_images=_frames(), speed=10),
    }


_MAKERS: dict[str, Callable[[], dict[str, bytes]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "gif": _gif,
    "tiff": _tiff,
    "bmp": _bmp,
    "avif": _avif,
}
