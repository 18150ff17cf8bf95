"""Parts of a form in the making: texts in memory, files and long texts of image fields on the disk.

What multipart and urlencoded bodies share: how a value grows, and how it becomes a field.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from upscale.server.forms import (
    TEXT_BYTES,
    Form,
    ImagePart,
    bytes_as_parts,
    is_image_name,
    is_single_byte,
)
from upscale.server.spool import private_file, storing

_MAX_BYTE_PARTS = 100


class Part:
    """A value of the field `name`; `path` is made for a file, or a text that is long."""

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
        """More of it. Raises OutputFault."""
        self._size += len(data)
        if self._file is None and self.is_image and self._size > TEXT_BYTES:
            self._open()
        if len(self.head) < TEXT_BYTES:
            self.head += data[: TEXT_BYTES - len(self.head)]
        if self._file is not None:
            with storing("the upload"):
                self._file.write(data)

    def image(self) -> ImagePart:
        """What an image field holds."""
        path = self._path if self._file is not None else None
        return ImagePart(self.name, self.filename, self._size, bytes(self.head), path)

    def close(self) -> None:
        """Close its file, where it has one."""
        if self._file is not None:
            with storing("the upload"):
                self._file.close()

    def _open(self) -> None:
        with storing("the upload"):
            self._file = private_file(self._path)
            self._file.write(self.head)


class Gatherer:
    """Finished parts into a Form."""

    def __init__(self) -> None:
        self.form = Form()
        self._bytes = 0

    def take(self, part: Part) -> None:
        """Close a part and add it. Raises InvalidRequest where they are a picture's single bytes.

        Files of fields that are no images are left out.
        """
        part.close()
        if part.is_image:
            if part.filename is None and is_single_byte(part.name, bytes(part.head)):
                self._bytes += 1
                if self._bytes > _MAX_BYTE_PARTS:
                    raise bytes_as_parts()
            self.form.images.append(part.image())
        elif part.filename is None:
            self.form.add(part.name, part.head.decode("utf-8", "replace"))
