"""A multipart/form-data body, piece by piece as it arrives, into a Form.

Files of image fields go straight to the disk, small texts stay in memory, long ones (data URIs)
follow the files. Limits on the whole body are the caller's; here are those on its parts.
"""

from __future__ import annotations

from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from upscale.errors import InvalidRequest
from upscale.server.forms import Form
from upscale.server.parts import Gatherer, Part

_MAX_PARTS = 1000


class MultipartReader:
    """Feed it the body, then call `finish`. `folder` takes the files."""

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self._folder = folder
        self._gatherer = Gatherer()
        self._parts = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._part: Part | None = None
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
        return self._gatherer.form

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
        self._part = Part(name, shown, path)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        assert self._part is not None
        self._part.write(data[start:end])

    def _end(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        self._gatherer.take(part)


def _malformed(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid multipart/form-data: {reason}.")
