"""An urlencoded body, piece by piece as it arrives, into a Form. Long values of image fields (data
URIs) go to the disk, those of other fields are cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

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

_MAX_FIELDS = 1000
_MAX_BYTE_FIELDS = 100
_MAX_NAME = 1000


class UrlencodedReader:
    """Feed it the body, then call `finish`. `folder` takes the long values."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._form = Form()
        self._fields = self._byte_fields = 0
        self._rest = b""
        self._value: _Value | None = None

    def feed(self, data: bytes) -> None:
        """The next piece of the body, of any length. Raises InvalidRequest or OutputFault."""
        first, *others = data.split(b"&")
        self._more(first)
        for piece in others:
            self._end()
            self._more(piece)

    def finish(self) -> Form:
        """The Form, once the whole body was fed."""
        self._end()
        return self._form

    def close(self) -> None:
        """Close what is open; the files are the folder's owner's to remove."""
        if self._value is not None:
            self._value.close()

    def _more(self, data: bytes) -> None:
        data = self._rest + data
        self._rest = b""
        if self._value is None:
            name, found, data = data.partition(b"=")
            if len(name) > _MAX_NAME:
                raise InvalidRequest("The form has a name that is longer than any field's.")
            if not found:
                self._rest = name
                return
            self._begin(name)
        assert self._value is not None
        # An escape that is cut waits for its end.
        cut = data.rfind(b"%", max(0, len(data) - 2))
        if cut >= 0:
            data, self._rest = data[:cut], data[cut:]
        self._value.write(_plain(data))

    def _begin(self, name: bytes) -> None:
        self._fields += 1
        if self._fields > _MAX_FIELDS:
            raise InvalidRequest(f"The form has more than {_MAX_FIELDS} fields.")
        shown = _plain(name).decode("utf-8", "replace")
        self._value = _Value(shown, self._folder / f"value-{self._fields}")

    def _end(self) -> None:
        value, self._value = self._value, None
        rest, self._rest = self._rest, b""
        if value is None:
            if not rest:
                return
            self._begin(rest)  # a name without a value
            value, self._value = self._value, None
            assert value is not None
        else:
            value.write(_plain(rest))
        value.close()
        if not value.is_image:
            self._form.add(value.name, value.head.decode("utf-8", "replace"))
            return
        if is_single_byte(value.name, bytes(value.head)):
            self._byte_fields += 1
            if self._byte_fields > _MAX_BYTE_FIELDS:
                raise bytes_as_parts()
        self._form.images.append(value.image())


class _Value:
    """A value in the making."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.is_image = is_image_name(name)
        self.head = bytearray()
        self._size, self._path = 0, path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        self._size += len(data)
        with storing("the upload"):
            if self._file is None and self.is_image and self._size > TEXT_BYTES:
                self._file = private_file(self._path)
                self._file.write(self.head)
            if self._file is not None:
                self._file.write(data)
        self.head += data[: max(0, TEXT_BYTES - len(self.head))]

    def image(self) -> ImagePart:
        path = self._path if self._file is not None else None
        return ImagePart(self.name, None, self._size, bytes(self.head), path)

    def close(self) -> None:
        if self._file is not None:
            with storing("the upload"):
                self._file.close()


def _plain(data: bytes) -> bytes:
    return unquote_to_bytes(data.replace(b"+", b" "))
