"""Metadata as chunks of a PNG (W3C PNG, third edition, section 11.3), in the order they may stand.

Makes the chunks' contents; their frames are the writer's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from upscale.imaging.exif import PREFIX
from upscale.imaging.metadata import Metadata, Text

_INCH = 0.0254  # metres
# Texts that are longer are packed; short ones stay readable to the simplest tools.
_PACK_FROM = 64 << 10


def metadata_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk, all to stand before the pixels."""
    if metadata.cicp:
        yield b"cICP", metadata.cicp
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        across, down = (min(round(value / _INCH), 0x7FFFFFFF) for value in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif.removeprefix(PREFIX)
    if metadata.xmp:
        # not packed: other programs look for the packet in the plain bytes
        yield b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp
    for text in metadata.text:
        yield _text_chunk(text)


def _text_chunk(text: Text) -> tuple[bytes, bytes]:
    """tEXt or zTXt where Latin-1 and no language will do, as most programs write; else iTXt."""
    # 1 to 79 characters, by the specification
    keyword = (text.keyword.encode("latin-1", "replace")[:79] or b"Comment") + b"\0"
    if not text.language and not text.translated:
        try:
            plain = text.text.encode("latin-1")
        except UnicodeEncodeError:
            pass
        else:
            if len(plain) < _PACK_FROM:
                return b"tEXt", keyword + plain.replace(b"\0", b" ")
            return b"zTXt", keyword + b"\0" + zlib.compress(plain)
    world, packed = text.text.encode("utf-8", "replace"), b"\0\0"
    if len(world) >= _PACK_FROM:
        world, packed = zlib.compress(world), b"\1\0"
    names = text.language.encode("latin-1", "replace") + b"\0" + text.translated.encode("utf-8")
    return b"iTXt", keyword + packed + names + b"\0" + world
