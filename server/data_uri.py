"""Data URIs (`data:image/png;base64,…`) into files, piece by piece."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

from upscale.errors import InvalidRequest
from upscale.server.forms import ImagePart
from upscale.server.spool import private_file, storing

# Anything longer before the comma is no header of a picture.
_MAX_HEADER = 1024
_PIECE = 1 << 20
_MAX_BLANKS = 1 << 20

_HEADER = re.compile(rb"\s*data:([^,]{0,1000}),", re.IGNORECASE)
_BLANK = b" \t\r\n"
_BLANKS = re.compile(rb"[ \t\r\n]+")
# Of the URL-safe alphabet; and of forms that read a plus as a blank.
_ALPHABET = bytes.maketrans(b"-_ \t", b"+/++")


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
        for piece in _base64(_pieces(part, header.end())):
            text = carry + piece
            whole = len(text) // 4 * 4
            # The last group, which may be padded, waits for what follows it.
            keep = whole if whole < len(text) else max(0, whole - 4)
            if b"=" in text[:keep]:
                raise _broken("there is more after the end of its base64")
            file.write(_decoded(text[:keep]))
            carry = text[keep:]
        file.write(_decoded(carry + b"=" * (-len(carry) % 4)))


def _base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces without line breaks and escapes, in the usual alphabet."""
    carry, first, count = b"", True, 0
    for piece in pieces:
        text = carry + piece
        cut = _settled(text)
        if len(text) - cut > _MAX_BLANKS:
            raise _broken("it has too many blanks")
        carry, text = text[cut:], text[:cut]
        if first:
            text = text.lstrip(_BLANK)
            first = not text
        text = _cleaned(text)
        count += len(text)
        yield text
    last = _cleaned(carry.rstrip(_BLANK))
    blanks = len(carry) - len(carry.rstrip(b" "))
    # Blanks that complete a group were pluses; others at the end, like those at the beginning,
    # are none, since no picture's base64 begins with a plus.
    missing = -(count + len(last)) % 4
    yield last + b"+" * (blanks if blanks == missing else 0)


def _settled(text: bytes) -> int:
    """How much of `text` can be judged without what follows: blanks and cut escapes wait."""
    cut = len(text.rstrip(_BLANK))
    escape = text.rfind(b"%", max(0, len(text) - 2))
    return cut if escape < 0 else len(text[:escape].rstrip(_BLANK))


def _cleaned(text: bytes) -> bytes:
    if b"%" in text:
        text = unquote_to_bytes(text)
    return _BLANKS.sub(_blank, text).translate(_ALPHABET)


def _blank(run: re.Match[bytes]) -> bytes:
    """Nothing for a line break and the blanks around it; other blanks were a plus each."""
    return b"" if b"\n" in run[0] or b"\r" in run[0] else run[0]


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
