"""A JSON body, piece by piece as it arrives, into a Form.

Long strings (data URIs) go to the disk, unescaped on their way, and leave a mark in the text; what
is left is small and parsed as a whole. So a picture of a hundred megabytes never stands in memory.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from upscale.errors import InvalidRequest
from upscale.server.forms import (
    NODE_CURE,
    TEXT_BYTES,
    Form,
    ImagePart,
    Structure,
    bytes_as_parts,
    is_image_name,
)
from upscale.server.ids import random_token
from upscale.server.spool import private_file, storing

# What a body may hold beside long strings, in bytes.
_MAX_TEXT = 1 << 20
_MAX_DEPTH = 4
_MAX_LONG = 100

# All of a string that stands in a piece: possessive, so that it costs a step a byte.
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")
_BYTES = re.compile(rb"\[\s*\d{1,3}\s*,\s*\d{1,3}\s*,")


class JsonReader:
    """Feed it the body, then call `finish`. `folder` takes the long strings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._text = bytearray()
        self._begun = False  # whether anything but blanks came
        self._string: bytearray | None = None
        self._long: _LongString | None = None
        self._escaped = False
        # Nobody can know it beforehand, so no string can pose as a long one.
        self._mark = random_token()
        self._longs: list[ImagePart] = []

    def feed(self, data: bytes) -> None:
        """The next piece of the body, of any length. Raises InvalidRequest or OutputFault."""
        place = 0
        while place < len(data):
            if self._string is None:
                place = self._outside(data, place)
            else:
                place = self._inside(data, place)

    def finish(self) -> Form:
        """The Form, once the whole body was fed. Raises InvalidRequest."""
        if self._string is not None:
            raise _invalid("it ends within a string")
        try:
            data = json.loads(
                bytes(self._text),
                parse_float=Decimal,
                parse_constant=str,
                object_pairs_hook=_members,
            )
        except (ValueError, ArithmeticError, RecursionError) as fault:
            reason = str(fault) if isinstance(fault, json.JSONDecodeError) else "unreadable"
            raise _invalid(reason) from fault
        if not isinstance(data, dict):
            raise InvalidRequest("The JSON body must be an object.")
        form = Form()
        for name, value in data.items():
            self._add(form, name, value)
        return form

    def close(self) -> None:
        """Close what is open; the files are the folder's owner's to remove."""
        if self._long is not None:
            self._long.close()

    def _outside(self, data: bytes, place: int) -> int:
        quote = data.find(b'"', place)
        end = len(data) if quote < 0 else quote + 1
        self._keep(data[place:end])
        if quote >= 0:
            self._string = bytearray()
        return end

    def _inside(self, data: bytes, place: int) -> int:
        if self._escaped:
            self._escaped = False
            self._grow(data[place : place + 1])
            return place + 1
        found = _INSIDE.match(data, place)
        assert found is not None  # it matches the empty string too
        end = found.end()
        self._escaped = data[end : end + 1] == b"\\"  # what it escapes is in the next piece
        if self._escaped:
            end += 1
        self._grow(data[place:end])
        if end < len(data):
            self._end_string()
        return end + 1

    def _grow(self, data: bytes) -> None:
        assert self._string is not None
        if self._long is not None:
            self._long.write(data)
            return
        self._string += data
        if len(self._string) > TEXT_BYTES:
            if len(self._longs) >= _MAX_LONG:
                raise InvalidRequest(f"The JSON body has more than {_MAX_LONG} long strings.")
            self._long = _LongString(self._folder / f"string-{len(self._longs)}")
            self._long.write(bytes(self._string))

    def _end_string(self) -> None:
        assert self._string is not None
        if self._long is None:
            self._keep(bytes(self._string) + b'"')
        else:
            self._keep(f'{self._mark}{len(self._longs)}"'.encode())
            self._longs.append(self._long.finish())
        self._string = self._long = None

    def _keep(self, text: bytes) -> None:
        # Looked at once, at the first byte that is no blank: this is asked for every string.
        if not self._begun and (begin := text.lstrip()):
            self._begun = True
            if begin.startswith(b"--"):
                raise _multipart()
        self._text += text
        if len(self._text) > _MAX_TEXT:
            if _BYTES.search(self._text):
                raise bytes_as_parts()
            raise InvalidRequest(
                f"The JSON body holds more than {_MAX_TEXT >> 20} MiB beside long strings. "
                "Send the image as a URL, a data URI, or a file in multipart/form-data."
            )

    def _add(self, form: Form, name: str, value: Any) -> None:
        if is_image_name(name):
            form.images.extend(self._images(name, value))
        elif isinstance(value, str):
            # A long one's mark stands for a text that no parameter is as long as.
            part = self._long_string(value)
            form.add(name, value if part is None else part.data.decode("utf-8", "replace"))
        elif isinstance(value, int | Decimal):
            form.add(name, value)
        elif value is not None:
            form.add(name, Structure(json.dumps(value, default=str)[:80]))

    def _images(self, name: str, value: Any, depth: int = 0) -> Iterator[ImagePart]:
        """Every string in an image field: plain, in lists, under `url` or `image_url`."""
        if isinstance(value, str):
            part = self._long_string(value)
            if part is None:
                # surrogatepass: lone surrogates are no URL either, and are refused as one later.
                data = value.encode("utf-8", "surrogatepass")
                part = ImagePart(name, None, len(data), data)
            yield part
        elif isinstance(value, list) and depth < _MAX_DEPTH:
            if value and all(type(item) is int for item in value):
                raise bytes_as_parts()
            for item in value:
                yield from self._images(name, item, depth + 1)
        elif isinstance(value, dict) and depth < _MAX_DEPTH:
            # A Buffer, or a typed array: {"0": 137, "1": 80, …}.
            if value.get("type") == "Buffer" or type(value.get("0")) is int:
                raise bytes_as_parts()
            for key in ("url", "image_url"):
                yield from self._images(name, value.get(key), depth + 1)
        elif value is not None:
            raise InvalidRequest(
                "In JSON, 'image' is a URL or a data URI as a string (or {\"url\": …}). "
                + NODE_CURE,
                field="image",
            )

    def _long_string(self, value: str) -> ImagePart | None:
        mark, number = value[: len(self._mark)], value[len(self._mark) :]
        return self._longs[int(number)] if mark == self._mark else None


def _multipart() -> InvalidRequest:
    return InvalidRequest(
        "The body looks like multipart/form-data while Content-Type says application/json. "
        "Do not set Content-Type yourself; the client knows the boundary."
    )


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members. Raises InvalidRequest for a name that comes twice with two values."""
    members = dict(pairs)
    if len(members) < len(pairs):
        for name, value in pairs:
            if members[name] != value:
                raise InvalidRequest(f"'{name[:80]}' comes twice, with different values.")
    return members


class _LongString:
    """A string on its way to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head, self._size, self._rest = b"", 0, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        self._file: BinaryIO
        with storing("the upload"):
            self._file = private_file(path)

    def write(self, data: bytes) -> None:
        """More of it, escaped as it came."""
        self._write(data, final=False)

    def finish(self) -> ImagePart:
        """The string as a part."""
        self._write(b"", final=True)
        self.close()
        return ImagePart("image", None, self._size, self._head, self._path)

    def close(self) -> None:
        with storing("the upload"):
            self._file.close()

    def _write(self, data: bytes, *, final: bool) -> None:
        try:
            text = self._rest + self._decoder.decode(data, final)
            whole = len(text) if final else _whole(text)
            self._rest = text[whole:]
            plain = text[:whole]
            if "\\" in plain:
                plain = json.loads(f'"{plain}"', strict=False)
        except ValueError as fault:
            raise _invalid("a string holds an invalid escape or character") from fault
        content = plain.encode("utf-8", "surrogatepass")
        if len(self._head) < TEXT_BYTES:
            self._head += content[: TEXT_BYTES - len(self._head)]
        self._size += len(content)
        with storing("the upload"):
            self._file.write(content)


def _whole(text: str) -> int:
    """Where `text` can be cut without cutting an escape, or a character made of two of them."""
    cut = len(text)
    last = text.rfind("\\", max(0, cut - 6))
    if last >= 0 and _begins_escape(text, last) and not _ESCAPE.match(text, last):
        cut = last
    half = max(0, cut - 6)
    if _HALF.fullmatch(text, half, cut) and _begins_escape(text, half):
        cut = half
    return cut


def _begins_escape(text: str, place: int) -> bool:
    """Whether the backslash at `place` is not one that was escaped itself."""
    before = place - len(text[:place].rstrip("\\"))
    return before % 2 == 0


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid JSON: {reason}.")
