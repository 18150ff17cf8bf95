"""Data URIs (`data:image/png;base64,…`) into files, piece by piece."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from pathlib import Path

from upscale.errors import InvalidRequest
from upscale.server.forms import ImagePart
from upscale.server.spool import private_file, storing

# Anything longer before the comma is no header of a picture.
_MAX_HEADER = 1024
_PIECE = 1 << 20

_HEADER = re.compile(rb"\s*data:([^,]{0,1000}),", re.IGNORECASE)
_SPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def is_data_uri(text: bytes) -> bool:
    """Whether `text` begins like a data URI."""
    return text[:_MAX_HEADER].lstrip()[:5].lower() == b"data:"


def write_data_uri(part: ImagePart, target: Path) -> None:
    """Decode the data URI that `part` holds into the new file `target`. Raises InvalidRequest."""
    header = _HEADER.match(part.data[:_MAX_HEADER])
    if header is None or not header[1].lower().rstrip().endswith(b";base64"):
        raise _broken("it must begin with 'data:image/…;base64,'")
    carry = b""
    with storing("the image"), private_file(target) as file:
        for piece in _pieces(part, header.end()):
            text = carry + piece.translate(_URL_SAFE, _SPACE)
            whole = len(text) // 4 * 4
            # The last group, which may be padded, waits for what follows it.
            keep = whole if whole < len(text) else max(0, whole - 4)
            if b"=" in text[:keep]:
                raise _broken("there is more after the end of its base64")
            file.write(_decoded(text[:keep]))
            carry = text[keep:]
        file.write(_decoded(carry + b"=" * (-len(carry) % 4)))


def _pieces(part: ImagePart, start: int) -> Iterator[bytes]:
    if part.path is None:
        for begin in range(start, len(part.data), _PIECE):
            yield part.data[begin : begin + _PIECE]
        return
    with part.path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            yield piece


def _decoded(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as fault:
        raise _broken("what follows the comma is not base64") from fault


def _broken(reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid data URI in 'image': {reason}.", field="image")
