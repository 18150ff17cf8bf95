"""A multipart/form-data body, piece by piece as it arrives, into a Form.

Files of image fields go straight to the disk, small texts stay in memory, long ones (data URIs)
follow the files. Limits on the whole body are the caller's; here are those on its parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from upscale.errors import InvalidRequest
from upscale.server.forms import (
    TEXT_BYTES,
    Form,
    ImagePart,
    bytes_as_parts,
    is_image_name,
    is_single_byte,
)
from upscale.server.spool import private_file, storing

_MAX_PARTS = 1000
_MAX_BYTE_PARTS = 100


class MultipartReader:
    """Feed it the body, then call `finish`. `folder` takes the files."""

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self._folder = folder
        self._form = Form()
        self._parts = self._byte_parts = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._part: _Part | None = None
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end,
                },
            )
        except FormParserError as fault:
            raise _malformed(str(fault)) from fault

    def feed(self, data: bytes) -> None:
        """The next piece of the body, of any length. Raises InvalidRequest or OutputFault."""
        try:
            self._parser.write(data)
        except FormParserError as fault:
            raise _malformed(str(fault)) from fault

    def finish(self) -> Form:
        """The Form, once the whole body was fed. Raises InvalidRequest if it is cut off."""
        if self._parser.state != MultipartState.END:
            raise _malformed("it ends before the last boundary")
        return self._form

    def close(self) -> None:
        """Close what is open; the files are the folder's owner's to remove."""
        if self._part is not None:
            self._part.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.")
        self._headers.clear()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        shown = filename.decode("utf-8", "replace") if filename is not None else None
        path = self._folder / f"part-{self._parts}"
        self._part = _Part(name, shown, path)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        self._part.write(data[start:end])

    def _end(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        part.close()
        if part.is_image:
            if part.filename is None and is_single_byte(part.name, bytes(part.head)):
                self._byte_parts += 1
                if self._byte_parts > _MAX_BYTE_PARTS:
                    raise bytes_as_parts()
            self._form.images.append(part.image())
        elif part.filename is None:
            self._form.add(part.name, part.head.decode("utf-8", "replace"))


class _Part:
    """A part in the making."""

    def __init__(self, name: str, filename: str | None, path: Path) -> None:
        self.name, self.filename = name, filename
        self.is_image = is_image_name(name)
        self.head = bytearray()
        self._size = 0
        self._path = path
        self._file: BinaryIO | None = None
        if self.is_image and filename is not None:
            self._open()

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._file is None and self.is_image and len(self.head) + len(data) > TEXT_BYTES:
            self._open()
        if len(self.head) < TEXT_BYTES:
            self.head += data[: TEXT_BYTES - len(self.head)]
        if self._file is not None:
            with storing("the upload"):
                self._file.write(data)

    def image(self) -> ImagePart:
        path = self._path if self._file is not None else None
        return ImagePart(self.name, self.filename, self._size, bytes(self.head), path)

    def close(self) -> None:
        if self._file is not None:
            with storing("the upload"):
                self._file.close()

    def _open(self) -> None:
        with storing("the upload"):
            self._file = private_file(self._path)
            self._file.write(self.head)


def _malformed(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid multipart/form-data: {reason}.")
